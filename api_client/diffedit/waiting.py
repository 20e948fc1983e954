"""How jobs are waited for: how often they are asked, and when a wait gives up.

`changes` is the loop of a thread that waits. `watcher.py` is the one of an event loop. Both go by these rules.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from diffedit import retries
from diffedit.contract.job import JobStatus
from diffedit.errors import BrokerUnavailable, InvalidRequest, JobTimeout

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two requests for a status: few after a change, more and more while nothing changes."""
PAUSE_FACTOR = 1.5
SHORTEST_WAIT = 1.0
"""Seconds that a server has for its answer at least, however little is left of a caller's timeout."""


class Watchable(Protocol):
    """What the loop needs of a job. `JobHandle` is one."""

    id: str

    def status(self, timeout: float = 0) -> JobStatus: ...


class Pace:
    """How long to pause between two requests for the status of a job."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE

    def pause_after(self, changed: bool) -> float:
        """Return the seconds to pause after an answer. `changed` is whether it was another one than before."""
        self._pause = FIRST_PAUSE if changed else min(self._pause * PAUSE_FACTOR, LONGEST_PAUSE)
        return self._pause


def changes(jobs: Sequence[Watchable], timeout: float, heartbeat: float | None = None) -> Iterator[JobStatus]:
    """Yield the status of each job now and at every change, until all jobs have ended.

    With `heartbeat`, the last status of a job is yielded again when it has not changed for so many seconds.

    Raises:
        JobTimeout: a job has not ended after `timeout` seconds.
        JobNotFound: there is no record of a job.
        BrokerUnavailable: the server has not answered for 30 seconds, or until the timeout.
        InvalidRequest: `timeout` is NaN, or `heartbeat` is not positive.
    """
    check_limits(timeout, heartbeat)
    begun = time.monotonic()
    asked = [_Asked(job, begun + timeout, heartbeat) for job in jobs]
    pace = Pace()
    while True:
        changed = False
        for job in asked:
            if job.ask():
                yield job.last
                job.told()
                changed = changed or job.changed
        asked = [job for job in asked if not job.last.is_terminal]
        if not asked:
            return
        left = begun + timeout - time.monotonic()
        if left <= 0:
            raise timed_out(asked[0].last, timeout)
        time.sleep(min(pace.pause_after(changed), left, *(job.silence_left for job in asked)))


class _Asked:
    """A job that `changes` asks for its status."""

    last: JobStatus

    def __init__(self, job: Watchable, end: float, heartbeat: float | None) -> None:
        self._job = job
        self._end = end
        self._heartbeat = math.inf if heartbeat is None else heartbeat
        self._known = False
        self._told_at = time.monotonic()
        self._away_since: float | None = None
        self.changed = False

    @property
    def silence_left(self) -> float:
        """Seconds until the status is told again, if it does not change."""
        return max(0.0, self._told_at + self._heartbeat - time.monotonic())

    def ask(self) -> bool:
        """Ask for the status. Return whether to tell the caller: it has changed, or nothing was told for too long."""
        asked_at = time.monotonic()
        away_since = asked_at if self._away_since is None else self._away_since
        left = min(self._end, away_since + retries.CLIENT_OUTAGE) - asked_at
        try:
            status = self._job.status(timeout=min(left, self.silence_left) if self._known else left)
        except BrokerUnavailable:
            now = time.monotonic()
            is_over = now >= self._end or now - away_since >= retries.CLIENT_OUTAGE
            if is_over or not self._known or self.silence_left > 0:
                raise
            self._away_since, self.changed = away_since, False
        else:
            self._away_since, self.changed = None, not self._known or status != self.last
            if self.changed:
                self.last, self._known = status, True
        return self.changed or self.silence_left <= 0

    def told(self) -> None:
        """Note that the caller has got the status."""
        self._told_at = time.monotonic()


def check_limits(timeout: float, heartbeat: float | None) -> None:
    """Raise InvalidRequest if a wait cannot have these limits."""
    if math.isnan(timeout):
        raise InvalidRequest("timeout must be a number of seconds; got NaN")
    if heartbeat is not None and not heartbeat > 0:
        raise InvalidRequest(f"heartbeat must be a positive number of seconds, or None; got {heartbeat!r}")


def timed_out(status: JobStatus, timeout: float) -> JobTimeout:
    """Return the error of a wait whose time is over. `status` is the last one."""
    return JobTimeout(status.id, f"still {status.state.value} after {timeout:g} s; wait again or cancel the job")
