"""One deadline for a call and everything within it.

redis-py repeats the handshake within each attempt at a command, and kombu repeats both. Against a server that accepts
connections and never answers, limits of single steps multiply to minutes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_end: ContextVar[float | None] = ContextVar("end", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let everything within the context that asks `seconds_left` end after so many seconds. The earliest one counts."""
    end, outer = time.monotonic() + seconds, _end.get()
    token = _end.set(end if outer is None else min(end, outer))
    try:
        yield
    finally:
        _end.reset(token)


def seconds_left(at_most: float) -> float:
    """Return the seconds until the deadline, and `at_most` without one. Never 0, which sockets take for no limit."""
    end = _end.get()
    return at_most if end is None else max(0.001, min(at_most, end - time.monotonic()))
