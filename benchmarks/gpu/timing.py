"""Times, memory and the time limit."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from diffedit_worker.diffusion.device_errors import is_out_of_memory

T = TypeVar("T")

WARM_UP = 3
"""Calls before the first measured one: they choose kernels, reserve memory, compile and record graphs."""
CALLS, ENOUGH = 8, 3.0
"""The measured calls are at most so many, and no more begin after so many seconds."""


@dataclass(frozen=True)
class Deadline:
    """The end of the time that a run may take."""

    seconds: float
    _began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """The seconds that are left, below 0 after the end."""
        return self.seconds - (time.monotonic() - self._began)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_per_call(run: Callable[[], object], device: torch.device) -> float:
    """Return the median of the seconds that one call takes.

    On CUDA it is the time between two events on the device, so a device that waits for Python counts as busy: that is
    the time that an edit pays.
    """
    for _ in range(WARM_UP):
        run()
    synchronize(device)
    times: list[float] = []
    while len(times) < CALLS and sum(times) < ENOUGH:
        times.append(_seconds(run, device))
    return statistics.median(times)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        run()
        synchronize(device)
        return time.perf_counter() - began
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


class PeakMemory:
    """The most memory of the device that tensors took since the last reset, in GB; unknown (0) outside of CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    @property
    def gigabytes(self) -> float:
        return torch.cuda.max_memory_allocated(self._device) / 1e9 if self._device.type == "cuda" else 0.0


def unless_out_of_memory(run: Callable[[], T]) -> T | None:
    """Return what `run` returns, or None if the device's memory is too small for it."""
    try:
        return run()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # Outside of the handler: its exception keeps the tensors of the failed call alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
