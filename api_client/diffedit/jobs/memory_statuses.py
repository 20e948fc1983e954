"""The statuses of jobs and how jobs end, in the memory of this process."""

import time
from collections.abc import Mapping

from diffedit.contract.job import JobStatus, State
from diffedit.errors import BadRecord, JobElsewhere, JobNotFound
from diffedit.jobs.memory_lost_jobs import MemoryLostJobs
from diffedit.jobs.record_objects import objects_of
from diffedit.jobs.records import Queueing, outcome_in, status_of
from diffedit.jobs.store import StatusReading


class MemoryStatuses(MemoryLostJobs):
    """The part of a `JobStore` in this process that reads statuses and ends jobs."""

    def status(self, job_id: str) -> JobStatus:
        with self._state.lock:
            self.expire_job(job_id)
            return status_of(job_id, self._record(job_id))

    def statuses(self, jobs: Mapping[str, StatusReading | None]) -> dict[str, StatusReading]:
        return {job_id: self._read(job_id, earlier) for job_id, earlier in jobs.items()}

    def queue_status(self, job_id: str) -> JobStatus:
        with self._state.lock:
            self.expire_job(job_id)
            record, waiting = self._record(job_id), self._state.waiting
            queue, since = record.get("queue"), waiting.get(job_id)
            if since is None or queue is None:
                return status_of(job_id, record)
            others = [(at, each) for each, at in waiting.items() if self._record(each)["queue"] == queue]
            ahead = sum(place < (since, job_id) for place in others)
            workers = [info for info in self._state.workers_of(job_id, queue) if not info.paused]
            return status_of(job_id, record, Queueing(ahead, sum(info.batch_jobs for info in workers)))

    def expire_job(self, job_id: str) -> State | None:
        with self._state.lock:
            return self._outcome(job_id, None)

    def resend_webhook(self, job_id: str) -> bool:
        with self._state.lock:
            record = self._record(job_id)
            event = record.get("outcome") or ("started" if "started" in record else None)
            if event is None or "webhook" not in record:
                return False
            self._state.queue_webhook(job_id, event)
            return True

    def _read(self, job_id: str, earlier: StatusReading | None) -> StatusReading:
        with self._state.lock:
            try:
                status = self.status(job_id)
            except (JobNotFound, BadRecord) as error:
                return StatusReading(error, None)
            record = dict(self._record(job_id))
            return earlier if earlier and earlier.record == record else StatusReading(status, record)

    def _record(self, job_id: str) -> dict[str, str]:
        if job_id not in self._state.records:
            raise JobNotFound(job_id)
        return self._state.records[job_id]

    def _outcome(self, job_id: str, worker: str | None) -> State | None:
        """Return the outcome if the job has ended. Raises JobElsewhere if `worker` does not run it."""
        record = self._record(job_id)
        if self._is_overdue(job_id):
            self._end(job_id, State.EXPIRED)
        if "outcome" in record:
            return outcome_in(job_id, record["outcome"])
        if worker is not None and self._state.running.get(job_id) != worker:
            raise JobElsewhere(job_id)
        return None

    def _end(self, job_id: str, outcome: State) -> None:
        record = self._state.records[job_id]
        record.update({"outcome": outcome.value, "finished": now_text()})
        self._state.clear_open(job_id)
        owner, profile = record.get("owner"), record["queue"].split(".")[1]
        self._state.add_usage(owner, profile, outcome.value, 1)
        self._state.add_usage(owner, profile, "gpu_seconds", float(record.pop("used", 0)))
        if outcome is State.SUCCEEDED and "pixels" in record:
            self._state.add_usage(owner, profile, "pixels", int(record["pixels"]))
        if "keep" in record:
            until = time.time() + float(record["keep"])
            for key in objects_of(record):
                self._state.kept[key] = max(until, self._state.kept.get(key, 0))
        self._state.queue_webhook(job_id, outcome.value)


def now_text() -> str:
    """Return the time as a record holds it."""
    return f"{time.time():.6f}"
