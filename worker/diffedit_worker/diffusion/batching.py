"""Jobs that share the passes of the diffusion model.

A job calls the model once for each of its steps, with one or two samples. Part of a pass's time does not depend on how
many samples it has. So the calls of several threads that wait at the same moment go through the model as one batch,
whatever their job, stage, timestep, text and guidance, if their tensors have the same shape. Each sample has a timestep
of its own, and no operation of the model mixes samples.

There is no thread for it. Of the callers that wait, one becomes the *leader*: it chooses the requests of the next pass,
runs the pass, and hands the results to the others. While a pass runs, further requests gather for the next one. When a
pass ends, its callers come back with their next step a moment later, each for itself; so the leader waits for those
that it expects, for a small part of a pass. A caller that was expected in vain is expected less often. So whoever is
late, has left, or works at something else costs the others one such wait, and a caller that is alone never waits.

The rounding of a batch depends on its size, so results differ in the last bits with the neighbours that a job had.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffedit_worker.diffusion.device_errors import is_device_error, is_out_of_memory

if TYPE_CHECKING:
    from diffedit_worker.diffusion.denoiser import Denoiser

MOST_PASSES_SKIPPED = 4
"""A request that other requests were preferred to for so many passes comes first in the next."""

_yields: ContextVar[bool] = ContextVar("yields", default=False)


@contextmanager
def yielding(yields: bool) -> Iterator[None]:
    """Let the calls of this thread yield to those of others, if more wait than fit into a pass."""
    token = _yields.set(yields)
    try:
        yield
    finally:
        _yields.reset(token)


class PassCounts(NamedTuple):
    """What went through a `SharedDenoiser` so far.

    Attributes:
        passes: the passes of the model.
        requests: the calls that they served.
        samples: the samples of all passes.
        shared: the calls that were served together with another one.
    """

    passes: int = 0
    requests: int = 0
    samples: int = 0
    shared: int = 0


class SharedDenoiser:
    """A `Denoiser` that joins the calls of several threads into passes of another one.

    A call returns what the model returns for its samples alone, up to rounding; a call without neighbours exactly that.
    It raises what the model raises for its samples alone. If the memory is too small for a pass of several requests,
    the pass is repeated in halves, and later passes are no larger. An error of the device itself goes to all callers of
    the pass.

    Args:
        max_samples: the most samples in a pass that several calls share.
        wait_share: for how long a leader waits for expected callers after a pass, as a share of the time that such a
            pass takes.
        shortest_wait, longest_wait: the bounds of this time, in seconds.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        max_samples: int,
        *,
        wait_share: float = 0.25,
        shortest_wait: float = 0.003,
        longest_wait: float = 0.03,
    ) -> None:
        self._denoiser = denoiser
        self._max_samples = max_samples
        self._wait_share = wait_share
        self._shortest_wait, self._longest_wait = shortest_wait, longest_wait
        lock = threading.Lock()
        self._arrived = threading.Condition(lock)
        """The leader waits here for more requests."""
        self._ended = threading.Condition(lock)
        """All others wait here for the end of a pass."""
        self._has_leader = False
        self._waiting: list[_Request] = []
        self._callers: dict[int, _Caller] = {}
        self._last_pass_at = 0.0
        self._seconds: dict[_Kind, float] = {}
        """How long the last pass of each kind took."""
        self._counts = PassCounts()

    @property
    def max_samples(self) -> int:
        """The most samples in a pass that several calls share. It falls when the memory is too small."""
        return self._max_samples

    @property
    def waiting(self) -> int:
        """How many calls wait for a pass that has not begun."""
        return len(self._waiting)

    @property
    def counts(self) -> PassCounts:
        """What went through so far."""
        return self._counts

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the prediction and the features, as `Denoiser` does."""
        request = _Request(x, t, cond, features, yields=_yields.get())
        with self._arrived:
            self._callers.setdefault(request.thread, _Caller()).has_come()
            self._waiting.append(request)
            self._arrived.notify()
            try:
                while not request.is_done:
                    if self._has_leader:
                        self._ended.wait()
                    else:
                        self._lead()
            finally:
                if request in self._waiting:  # this thread was interrupted
                    self._waiting.remove(request)
        return request.answer()

    def _lead(self) -> None:
        """Run one pass, perhaps without the request of this thread. The lock is held, except during the pass."""
        self._has_leader = True
        batch: list[_Request] = []
        try:
            self._wait_for_expected()
            batch = self._choose()
            self._arrived.release()
            try:
                started_at = time.monotonic()
                self._run(batch)
                ended_at = time.monotonic()
            finally:
                self._arrived.acquire()
            self._last_pass_at, self._seconds[batch[0].kind] = ended_at, ended_at - started_at
            for request in batch:
                self._callers[request.thread].pass_ended()
        finally:
            # A pass that is interrupted, in the main thread, leaves the other requests to the next leader.
            self._waiting += [request for request in batch if not request.is_done]
            self._has_leader = False
            self._ended.notify_all()

    def _wait_for_expected(self) -> None:
        """Wait until all expected callers are there, the pass is full, or the time for it is over."""
        while missing := [caller for caller in self._callers.values() if caller.is_expected]:
            kind = self._next().kind
            if sum(request.samples for request in self._waiting if request.kind == kind) >= self._max_samples:
                return
            wait = min(max(self._wait_share * self._seconds.get(kind, 0.0), self._shortest_wait), self._longest_wait)
            left = self._last_pass_at + wait - time.monotonic()
            if left <= 0:
                for caller in missing:
                    caller.expected_in_vain()
                return
            self._arrived.wait(left)

    def _next(self) -> _Request:
        return min(self._waiting, key=_Request.rank)

    def _choose(self) -> list[_Request]:
        """Take the requests of the next pass: the first one in order, and those of its kind that fit beside it."""
        first = self._next()
        batch, samples = [first], first.samples
        for request in sorted(self._waiting, key=_Request.rank):
            fits = samples + request.samples <= self._max_samples
            if request is not first and request.kind == first.kind and fits:
                batch.append(request)
                samples += request.samples
        self._waiting = [request for request in self._waiting if request not in batch]
        for request in self._waiting:
            request.passes_skipped += 1
        return batch

    def _run(self, batch: Sequence[_Request]) -> None:
        """Answer these requests: in one pass, or if that fails, in several."""
        try:
            self._run_pass(batch)
            return
        except Exception as error:
            if len(batch) == 1 or is_device_error(error):
                for request in batch:
                    request.error = error
                return
            parts = [[request] for request in batch]
            if is_out_of_memory(error):
                self._max_samples = min(self._max_samples, max(1, sum(request.samples for request in batch) // 2))
                parts = [list(batch[: len(batch) // 2]), list(batch[len(batch) // 2 :])]
        # Outside of the handler: its exception keeps the tensors of the failed pass alive.
        for part in parts:
            self._run(part)

    @torch.no_grad()
    def _run_pass(self, batch: Sequence[_Request]) -> None:
        first = batch[0]
        if len(batch) == 1:
            first.result = self._denoiser(first.x, first.t, first.cond, first.features)
        else:
            x, t, cond = (torch.cat(tensors) for tensors in zip(*((r.x, r.t, r.cond) for r in batch), strict=True))
            given = [request.features for request in batch if request.features is not None]
            sizes = [request.samples for request in batch]
            eps, features = self._denoiser(x, t, cond, torch.cat(given) if given else None)
            split = zip(batch, torch.split(eps, sizes), given or torch.split(features, sizes), strict=True)
            for request, own_eps, own_features in split:
                # A copy, because a view would keep the whole batch in memory for as long as the features are used.
                request.result = own_eps.clone(), own_features if given else own_features.clone()
        served = (1, len(batch), sum(request.samples for request in batch), len(batch) if len(batch) > 1 else 0)
        self._counts = PassCounts(*map(sum, zip(self._counts, served, strict=True)))


class _Kind(NamedTuple):
    """What requests must have in common to be one batch: the shapes of a sample, and the types of the numbers."""

    x: torch.Size
    cond: torch.Size
    features: torch.Size | None
    dtypes: tuple[torch.dtype, torch.dtype]


@dataclass(eq=False)
class _Request:
    """A call that waits for its result."""

    x: Tensor
    t: Tensor
    cond: Tensor
    features: Tensor | None
    yields: bool
    thread: int = field(default_factory=threading.get_ident)
    arrived_at: float = field(default_factory=time.monotonic)
    passes_skipped: int = 0
    result: tuple[Tensor, Tensor] | None = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        shape = None if self.features is None else self.features.shape[1:]
        self.kind = _Kind(self.x.shape[1:], self.cond.shape[1:], shape, (self.x.dtype, self.cond.dtype))

    @property
    def samples(self) -> int:
        return len(self.x)

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.error is not None

    def rank(self) -> tuple[int, float]:
        """Return what orders requests: those that were skipped too often, then the others, then those that yield."""
        group = 0 if self.passes_skipped >= MOST_PASSES_SKIPPED else 2 if self.yields else 1
        return group, self.arrived_at

    def answer(self) -> tuple[Tensor, Tensor]:
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


@dataclass(eq=False)
class _Caller:
    """A thread that calls the model, and whether its next call is expected soon."""

    is_expected: bool = False
    in_vain: int = 0
    """How often in a row it was expected in vain."""
    passes_to_ignore: int = 0

    def has_come(self) -> None:
        if self.is_expected:
            self.is_expected, self.in_vain = False, 0

    def pass_ended(self) -> None:
        """Expect the caller, unless it was expected in vain before: then only after some passes, each time more."""
        self.is_expected = self.passes_to_ignore == 0
        self.passes_to_ignore = max(0, self.passes_to_ignore - 1)

    def expected_in_vain(self) -> None:
        self.is_expected = False
        self.passes_to_ignore = 2 ** min(self.in_vain, 5)
        self.in_vain += 1
