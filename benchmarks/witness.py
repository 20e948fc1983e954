"""Who watches the jobs while faults strike, and remembers every end that was ever seen."""

import logging
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass

from diffedit.contract.job import JobStatus, State
from diffedit.errors import JobNotFound, ServiceError
from diffedit.jobs.store import JobStore

log = logging.getLogger(__name__)

PAUSE = 0.1
SELDOM = 20
"""Jobs that have ended are looked at only every so many times: their records should not change any more."""


@dataclass
class Blow:
    """A worker was hit while it held a job; `at` is of `time.monotonic`."""

    job_id: str
    worker: str
    at: float
    frozen: JobStatus | None
    """Where the job stood when its worker was frozen, which may go on with it; None if the worker will not be back."""
    noticed: bool = False

    def recovered(self, status: JobStatus) -> bool:
        moved = self.frozen is not None and status != self.frozen
        return moved or status.worker != self.worker or status.is_terminal


class Witness:
    """Reads the records of all jobs that it was told of, again and again.

    Attributes:
        jobs: the ids of the jobs by idempotency key.
        last: each job's status when last seen.
        ends: the outcomes that each job was ever seen with.
        noticed: seconds from a blow until the record no longer gave the job to the worker that was hit.
        recoveries: seconds from a blow until the job was begun again, or went on.
    """

    def __init__(self, job_store: JobStore) -> None:
        self._job_store = job_store
        self.jobs: dict[str, set[str]] = defaultdict(set)
        self.last: dict[str, JobStatus | None] = {}
        self.ends: dict[str, set[State]] = defaultdict(set)
        self.blows: list[Blow] = []
        self.noticed: list[float] = []
        self.recoveries: list[float] = []

    @property
    def open(self) -> list[str]:
        return [job_id for job_id, status in list(self.last.items()) if not (status and status.is_terminal)]

    def submitted(self, key: str, job_id: str) -> None:
        self.jobs[key].add(job_id)
        self.last.setdefault(job_id, None)

    def watch(self, over: threading.Event) -> None:
        looks = 0
        while not over.wait(PAUSE):
            looks += 1
            with suppress(ServiceError):  # the next look will do
                self.look(self.open if looks % SELDOM else list(self.last))

    def look(self, job_ids: list[str]) -> None:
        for blow in [blow for blow in self.blows if not blow.noticed]:
            if blow.job_id not in self._job_store.jobs_held_by(blow.worker):
                blow.noticed = True
                self.noticed.append(time.monotonic() - blow.at)
        for job_id in job_ids:
            try:
                status = self._job_store.status(job_id)
            except JobNotFound:
                self.last[job_id] = None
                continue
            self.last[job_id] = status
            if status.is_terminal:
                self.ends[job_id].add(status.state)
            self._recover(status)

    def _recover(self, status: JobStatus) -> None:
        for blow in [blow for blow in self.blows if blow.job_id == status.id and blow.recovered(status)]:
            self.blows.remove(blow)
            if status.state is not State.CANCELLED:
                self.recoveries.append(time.monotonic() - blow.at)
                log.info("job %s goes on after %.1f s", status.id, self.recoveries[-1])
