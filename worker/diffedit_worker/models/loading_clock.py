"""When models were loaded, so that a watchdog does not take a long download for a stage that is stuck."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class LoadingClock:
    """Knows when models were last being loaded. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loads = 0
        self._ended_at = -math.inf

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time in this context as loading. It includes the wait for a load in another thread."""
        with self._lock:
            self._loads += 1
        try:
            yield
        finally:
            with self._lock:
                self._loads -= 1
                self._ended_at = time.monotonic()

    @property
    def last_at(self) -> float:
        """The last moment at which a model was being loaded, by `time.monotonic`; -inf if none ever was."""
        with self._lock:
            return time.monotonic() if self._loads else self._ended_at
