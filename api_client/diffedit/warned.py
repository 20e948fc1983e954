"""Warnings that name the line of the program which called a public method, also if a thread of ours runs the method."""

import warnings
from contextvars import ContextVar

_collected: ContextVar[list[Warning] | None] = ContextVar("collected", default=None)


def warn(warning: Warning, stacklevel: int) -> None:
    """Issue a warning as `warnings.warn` does, or collect it if this context collects warnings."""
    collected = _collected.get()
    if collected is None:
        warnings.warn(warning, stacklevel=stacklevel + 1)
    else:
        collected.append(warning)


def collect_warnings() -> list[Warning]:
    """Collect the warnings of this context from now on, and return the list into which they go."""
    collected: list[Warning] = []
    _collected.set(collected)
    return collected
