"""An event loop whose clock stands still while something happens and jumps while everybody sleeps."""

import asyncio
import math
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Does not wait for files. Instead, it moves the clock to the time until which it was to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for something that no clock brings"
        self.now += max(timeout, 0)
        return super().select(0)


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        assert math.isfinite(when), "uvloop cannot wait for an infinite time"
        return super().call_at(when, *args, **options)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that needs no threads, as `asyncio.run` does. Sleeping takes no time."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        return runner.run(main)
