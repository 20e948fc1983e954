"""The observer: reads the records of all jobs during a chaos run and remembers every outcome that it saw."""

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

INTERVAL = 0.1
ROUNDS_PER_FULL_ROUND = 20
"""Jobs that have ended are read in one round of this many: their records must not change any more."""


@dataclass
class WorkerFault:
    """A fault that hit a worker while it held a job.

    Attributes:
        at: when the fault began, from `time.monotonic`.
        frozen_status: the job's status when its worker was frozen, because the worker may continue with the job; None
            if the worker will not come back.
        detected: the record no longer gives the job to this worker.
    """

    job_id: str
    worker: str
    at: float
    frozen_status: JobStatus | None
    detected: bool = False

    def is_recovered(self, status: JobStatus) -> bool:
        """Return whether the job, now with `status`, has made progress since the fault."""
        continued = self.frozen_status is not None and status != self.frozen_status
        return continued or status.worker != self.worker or status.is_terminal


class Observer:
    """Reads the records of the jobs that were submitted, again and again.

    Attributes:
        jobs: the ids of the jobs by idempotency key.
        statuses: the status of each job when it was last read; None if it has no record.
        outcomes: all outcomes that were ever seen, by job.
        worker_faults: the faults whose jobs have not recovered yet.
        detection_times: seconds from a fault until the record no longer gave the job to the worker.
        recovery_times: seconds from a fault until the job was started by another worker, or continued.
    """

    def __init__(self, job_store: JobStore) -> None:
        self._job_store = job_store
        self.jobs: dict[str, set[str]] = defaultdict(set)
        self.statuses: dict[str, JobStatus | None] = {}
        self.outcomes: dict[str, set[State]] = defaultdict(set)
        self.worker_faults: list[WorkerFault] = []
        self.detection_times: list[float] = []
        self.recovery_times: list[float] = []

    @property
    def unfinished_jobs(self) -> list[str]:
        return [job_id for job_id, status in list(self.statuses.items()) if not (status and status.is_terminal)]

    def add_job(self, idempotency_key: str, job_id: str) -> None:
        """Observe this job from now on."""
        self.jobs[idempotency_key].add(job_id)
        self.statuses.setdefault(job_id, None)

    def observe(self, finished: threading.Event) -> None:
        """Read the records in rounds until `finished` is set."""
        rounds = 0
        while not finished.wait(INTERVAL):
            rounds += 1
            with suppress(ServiceError):  # the next round reads them again
                self.read(self.unfinished_jobs if rounds % ROUNDS_PER_FULL_ROUND else list(self.statuses))

    def read(self, job_ids: list[str]) -> None:
        """Read the records of these jobs once."""
        for fault in [fault for fault in self.worker_faults if not fault.detected]:
            if fault.job_id not in self._job_store.jobs_held_by(fault.worker):
                fault.detected = True
                self.detection_times.append(time.monotonic() - fault.at)
        for job_id in job_ids:
            try:
                status = self._job_store.status(job_id)
            except JobNotFound:
                self.statuses[job_id] = None
                continue
            self.statuses[job_id] = status
            if status.is_terminal:
                self.outcomes[job_id].add(status.state)
            self._note_recovery(status)

    def _note_recovery(self, status: JobStatus) -> None:
        for fault in [each for each in self.worker_faults if each.job_id == status.id and each.is_recovered(status)]:
            self.worker_faults.remove(fault)
            if status.state is not State.CANCELLED:
                self.recovery_times.append(time.monotonic() - fault.at)
                log.info("job %s: recovered after %.1f s", status.id, self.recovery_times[-1])
