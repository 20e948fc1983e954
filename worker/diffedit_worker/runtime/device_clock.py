"""How much of the device's time each stage has used."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class DeviceClock:
    """Divides the time of a device among the stages that compute on it at the same time.

    Each of n stages gets the n-th part, so that all stages together never use more time than has passed. It is a clock
    that runs at the n-th part of the speed; a stage has used what passed on it.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._stages = 0
        self._shown = 0.0
        self._set_at = 0.0

    @contextmanager
    def computing(self, add: Callable[[float], object]) -> Iterator[None]:
        """Call `add` at the end of the context with the seconds that it has used."""
        began = self._change(1)
        try:
            yield
        finally:
            add(self._change(-1) - began)

    def _change(self, stages: int) -> float:
        """Let so many stages more compute from now on. Return what the clock shows."""
        with self._lock:
            now = self._monotonic()
            if self._stages:
                self._shown += (now - self._set_at) / self._stages
            self._set_at = now
            self._stages += stages
            return self._shown
