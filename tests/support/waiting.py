"""Wait for something to become true."""

import time
from collections.abc import Callable

import pytest

from diffedit import JobHandle, JobStatus


def until(condition: Callable[[], object], what: str = "the expected condition", timeout: float = 60) -> None:
    """Wait until `condition` is true; fail the test with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s in vain for: {what}"
        time.sleep(0.02)


def until_status(job: JobHandle, holds: Callable[[JobStatus], bool], what: str) -> JobStatus:
    """Wait until `holds` is true for the job's status; fail the test with `what` if the job ends before that."""
    deadline = time.monotonic() + 60
    while not holds(status := job.status()):
        if status.is_terminal:
            pytest.fail(f"the job ended as {status.state} before: {what}")
        assert time.monotonic() < deadline, f"waited a minute in vain for: {what}"
        time.sleep(0.02)  # `watch` pauses longer, and would miss a short stage
    return status
