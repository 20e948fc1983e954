"""A simulated clock for the job store: its scripts read the time from a key instead of asking the server.

A day of a fleet then takes as long as its calls of Redis. All else in the scripts is what workers and clients run.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from diffedit.jobs import redis_server

KEY = "benchmark:time"
START = 1_767_571_200.0
"""The midnight at which a simulated day begins, in seconds since 1970."""

_REAL = "local time = redis.call('TIME')\nlocal now = string.format('%d.%06d', time[1], time[2])\n"
_SIMULATED = f"local now = redis.call('GET', '{KEY}')\nlocal time = {{string.match(now, '(%d+)%.(%d+)')}}\n"


class SimulatedClock:
    """The time of a simulated day.

    Attributes:
        now: seconds since the start of the day. `write` before a script is called that reads the time.
        writes: how often that was done; while it stays the same, nothing changes in Redis.
    """

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection
        self._written = -1.0
        self.now = 0.0
        self.writes = 0

    def write(self) -> None:
        """Let the scripts see the present time."""
        self.writes += 1
        if self.now != self._written:
            self._connection.set(KEY, f"{START + self.now:.6f}")
            self._written = self.now


@contextmanager
def simulated_scripts() -> Iterator[None]:
    """Let the job stores that connect within the context read the time of a `SimulatedClock`.

    Raises ValueError: a script gets its time in another way than this module knows.
    """
    real = redis_server._scripts
    scripts = {name: text.replace(_REAL, _SIMULATED) for name, text in real().items()}
    if wrong := [name for name, text in scripts.items() if "'TIME'" in text]:
        raise ValueError(f"these scripts would still ask the server for the time: {', '.join(sorted(wrong))}")
    vars(redis_server).update(_scripts=lambda: scripts)
    try:
        yield
    finally:
        vars(redis_server).update(_scripts=real)
