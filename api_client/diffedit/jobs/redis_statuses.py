"""The statuses of jobs, read from Redis or Valkey."""

from collections.abc import Mapping
from typing import cast

from diffedit.contract.job import JobStatus, State
from diffedit.errors import BadRecord, JobNotFound, NewerRecord
from diffedit.jobs import keys
from diffedit.jobs.records import Queueing, status_of
from diffedit.jobs.redis_lost_jobs import RedisLostJobs
from diffedit.jobs.redis_server import outcome_of, translate_errors
from diffedit.jobs.store import StatusOrError, StatusReading

Record = Mapping[str, str] | None


class RedisStatuses(RedisLostJobs):
    """The part of a `JobStore` in Redis that reads statuses."""

    def status(self, job_id: str) -> JobStatus:
        return _status_in(self.statuses({job_id: None})[job_id].answer)

    @translate_errors
    def statuses(self, jobs: Mapping[str, StatusReading | None]) -> dict[str, StatusReading]:
        found = self._read(jobs)
        # If no worker is up, nobody else ends the job.
        ended = [job_id for job_id, (answer, _) in found.items() if _is_overdue(answer) and self._has_expired(job_id)]
        return {**found, **self._read(dict.fromkeys(ended))} if ended else found

    @translate_errors
    def queue_status(self, job_id: str) -> JobStatus:
        answer = cast(tuple[list[str], int, int], self._server.run("queue_status", job_id=job_id))
        flat, ahead, at_once = answer
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        status = self._status_of(job_id, fields, Queueing(ahead, at_once) if ahead >= 0 else None)
        return self.status(job_id) if status.is_overdue else status

    @translate_errors
    def expire_job(self, job_id: str) -> State | None:
        return outcome_of(job_id, self._server.run("expire_job", job_id=job_id))

    def _has_expired(self, job_id: str) -> bool:
        try:
            return self.expire_job(job_id) is not None
        except (JobNotFound, BadRecord):
            return True  # reading it again says so

    def _read(self, jobs: Mapping[str, StatusReading | None]) -> dict[str, StatusReading]:
        found = {}
        for job_id, record in self._entries.records(list(jobs)).items():
            earlier = jobs[job_id]
            is_same = earlier is not None and record is not None and record == earlier.record
            found[job_id] = earlier if earlier and is_same else StatusReading(self._answer(job_id, record), record)
        return found

    def _status_of(self, job_id: str, record: Record, queueing: Queueing | None = None) -> JobStatus:
        return _status_in(self._answer(job_id, record, queueing))

    def _answer(self, job_id: str, record: Record, queueing: Queueing | None = None) -> StatusOrError:
        if record == {}:
            return JobNotFound(job_id)
        try:
            return status_of(job_id, record, queueing)
        except BadRecord as error:
            if not isinstance(error, NewerRecord):
                self._entries.note([keys.job_key(job_id)])
            return error


def _status_in(answer: StatusOrError) -> JobStatus:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_overdue(answer: StatusOrError) -> bool:
    return isinstance(answer, JobStatus) and answer.is_overdue
