"""The copies of submissions and the restoration of jobs, in the memory of this process."""

import time
from collections.abc import Collection, Mapping

from diffedit.contract import versions
from diffedit.contract.job import State
from diffedit.errors import NewerRecord
from diffedit.jobs.memory_index import MemoryIndex
from diffedit.jobs.records import status_of
from diffedit.jobs.submissions import Restoration


class MemorySubmissions(MemoryIndex):
    """The part of a `JobStore` in this process that is about copies of submissions."""

    def restore_job(self, job_id: str, record: Mapping[str, str], created: float) -> Restoration:
        state, fields = self._state, {**record, "created": f"{created:.6f}"}
        status, key = status_of(job_id, fields), record.get("idempotency")
        if status.contract > versions.CONTRACT:
            raise NewerRecord(job_id)
        with state.lock:
            if job_id in state.records:
                return Restoration(restored=True)
            if job_id in state.settled:
                return Restoration(restored=False)
            if key and (first := state.idempotency.get(key)) in state.records:
                return Restoration(restored=False, repeated_as=first)
            if key:
                state.idempotency[key] = job_id
            if durations := state.durations.get(status.request.params.profile):
                fields["expected"] = " ".join(f"{stage} {seconds:.3f}" for stage, seconds in durations.items())
            state.records[job_id] = fields
            state.submitted[job_id] = created
            state.note_epoch()
            state.set_waiting(status.job)
            return Restoration(restored=True)

    def settle(self, job_ids: Collection[str]) -> None:
        with self._state.lock:
            self._state.settled |= dict.fromkeys(job_ids, time.time())

    def is_settled(self, job_id: str) -> bool:
        return job_id in self._state.settled

    def settled_jobs(self, limit: int) -> dict[str, float]:
        with self._state.lock:
            return dict(sorted(self._state.settled.items(), key=lambda each: each[1])[:limit])

    def forget_settled(self, job_ids: Collection[str]) -> None:
        with self._state.lock:
            for job_id in job_ids:
                self._state.settled.pop(job_id, None)

    def data_since(self) -> float | None:
        return self._state.data_since

    def _end(self, job_id: str, outcome: State) -> None:
        super()._end(job_id, outcome)
        self.settle([job_id])

    def _forget(self, job_id: str) -> None:
        super()._forget(job_id)
        self.settle([job_id])  # only a job that has a record, or was never recorded, is forgotten
