"""Which jobs need help, in the memory of this process."""

import time
from contextlib import suppress

from diffedit.errors import BadRecord
from diffedit.jobs.memory_state import MemoryState
from diffedit.jobs.records import status_of
from diffedit.jobs.store import PARKED_FOR


class MemoryLostJobs:
    """The part of a `JobStore` in this process that finds jobs which need help."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def overdue_jobs(self) -> list[str]:
        with self._state.lock:
            return [job_id for job_id in self._state.records if self._is_overdue(job_id)]

    def refused_jobs(self, patience: float) -> list[str]:
        before = time.time() - patience
        with self._state.lock:
            waiting = {job_id: self._state.records[job_id] for job_id in self._state.waiting}
            return [
                job_id
                for job_id, record in waiting.items()
                if float(record.get(f"refused_since:{record['next']}", "inf")) <= before
            ]

    def jobs_held_by(self, worker: str) -> list[str]:
        with self._state.lock:
            return [job_id for job_id, holder in self._state.running.items() if holder == worker]

    def abandoned_jobs(self) -> list[str]:
        state = self._state
        with state.lock:
            return [job_id for job_id, worker in state.running.items() if not state.is_announced(worker)]

    def jobs_without_message(self, waited: float) -> list[str]:
        with self._state.lock:
            before = time.time() - PARKED_FOR
            lately = {job_id for job_id, at in self._state.parked.items() if at >= before}
            paused = {each for each in self._state.waiting if self._state.records[each]["queue"] in self._state.paused}
            known = lately | paused
            return [each for each in self._state.waiting if self._has_waited(each, waited) and each not in known]

    def _has_waited(self, job_id: str, seconds: float) -> bool:
        return self._state.waiting[job_id] <= time.time() - seconds

    def _is_overdue(self, job_id: str) -> bool:
        with suppress(BadRecord):  # the job fails when a worker reads its record
            return status_of(job_id, self._state.records[job_id]).is_overdue
        return False
