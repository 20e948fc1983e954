"""Whether a stage runs beside others in its worker, or alone.

Two kinds of stages must be alone. One whose last attempt was lost may be what ended its worker: beside others, it would
cost them attempts until they fail with it. And one for which memory was too small may need what the others use.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CHECK_INTERVAL = 0.1
"""Seconds between two calls of `check` while a stage waits."""

Check = Callable[[], object]
"""Called while a stage waits for its turn. It may raise, and then the stage waits no longer."""


class StageGate:
    """Lets the stages of a worker run side by side, or one alone.

    A stage that waits to be alone goes before those that come later. Threads share it. A thread enters one context at a
    time, except that `alone_from_now` is inside of `beside_others`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._side_by_side = 0
        self._alone = False
        self._waiting_to_be_alone = 0

    @contextmanager
    def beside_others(self, check: Check) -> Iterator[None]:
        """Wait until nobody is or wants to be alone."""
        with self._changed:
            while self._alone or self._waiting_to_be_alone:
                self._wait(check)
            self._side_by_side += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self, check: Check) -> Iterator[None]:
        """Wait until no other stage runs. None starts before the end of the context."""
        self._wait_to_be_alone(check)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    @contextmanager
    def alone_from_now(self, check: Check) -> Iterator[None]:
        """Inside `beside_others`, be alone for a while."""
        self._leave()
        try:
            with self.alone(check):
                yield
        finally:
            with self._changed:
                self._side_by_side += 1

    def _wait_to_be_alone(self, check: Check) -> None:
        with self._changed:
            self._waiting_to_be_alone += 1
            try:
                while self._alone or self._side_by_side:
                    self._wait(check)
                self._alone = True
            finally:
                self._waiting_to_be_alone -= 1
                self._changed.notify_all()

    def _wait(self, check: Check) -> None:
        self._changed.wait(CHECK_INTERVAL)
        self._changed.release()
        try:
            check()
        finally:
            self._changed.acquire()

    def _leave(self) -> None:
        with self._changed:
            self._side_by_side -= 1
            self._changed.notify_all()
