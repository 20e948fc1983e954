"""Waiting for something outside of this process."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], timeout: float, *, interval: float = 0.1) -> bool:
    """Check `condition` every `interval` seconds; return whether it was true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
