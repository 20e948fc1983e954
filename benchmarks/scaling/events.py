"""What happens when: a queue of events in simulated time."""

import heapq
import itertools
from collections.abc import Callable

from benchmarks.scaling.clock import SimulatedClock


class Events:
    """Calls each action at its time. Actions of one moment are called in the order in which they were planned."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    @property
    def now(self) -> float:
        """Seconds since the start of the day."""
        return self.clock.now

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Plan an action."""
        self.at(self.now + seconds, action)

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Plan an action for a time that is not over."""
        heapq.heappush(self._planned, (time, next(self._numbers), action))

    def every(self, seconds: float, action: Callable[[], object], first: float = 0.0) -> None:
        """Plan an action again and again, without end."""

        def repeat() -> None:
            action()
            self.after(seconds, repeat)

        self.at(first, repeat)

    def step(self) -> None:
        """Go on to the next event."""
        self.clock.now, _, action = heapq.heappop(self._planned)
        action()
