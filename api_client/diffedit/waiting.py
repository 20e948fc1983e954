"""The one loop that waits for jobs: it asks for their status, and sleeps between two requests."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from diffedit.contract.job import JobStatus
from diffedit.errors import InvalidRequest, JobTimeout

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two requests for a status: few after a change, more and more while nothing changes."""
PAUSE_FACTOR = 1.5


class Watchable(Protocol):
    """What the loop needs of a job. `JobHandle` is one."""

    id: str

    def status(self, timeout: float = 0) -> JobStatus: ...


def changes(jobs: Sequence[Watchable], timeout: float) -> Iterator[JobStatus]:
    """Yield the status of each job now and at every change, until all jobs have ended.

    Raises:
        JobTimeout: a job has not ended after `timeout` seconds.
        JobNotFound: there is no record of a job.
        BrokerUnavailable: the server has not answered for 30 seconds, or until the timeout.
        InvalidRequest: `timeout` is NaN.
    """
    if math.isnan(timeout):
        raise InvalidRequest("timeout must be a number of seconds; got NaN")
    deadline = time.monotonic() + timeout
    last: dict[str, JobStatus] = {}
    unfinished, pause = list(jobs), FIRST_PAUSE
    while True:
        for job in unfinished:
            status = job.status(timeout=deadline - time.monotonic())
            if status != last.get(job.id):
                yield status
                last[job.id], pause = status, FIRST_PAUSE
        unfinished = [job for job in unfinished if not last[job.id].is_terminal]
        if not unfinished:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            late = last[unfinished[0].id]
            raise JobTimeout(late.id, f"still {late.state.value} after {timeout:g} s; wait again or cancel the job")
        time.sleep(min(pause, left))
        pause = min(pause * PAUSE_FACTOR, LONGEST_PAUSE)
