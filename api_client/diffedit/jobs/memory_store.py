"""The job records in the memory of this process: a double for unit tests, with the same behaviour as Redis.

There are no queues: every waiting job counts as a job without a message.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import BadRecord, IdempotencyConflict, JobElsewhere, JobNotFound, NewerRecord, QueueFull
from diffedit.jobs.memory_state import MemoryState
from diffedit.jobs.records import (
    done_fields,
    is_newer,
    new_fields,
    object_keys_in,
    outcome_in,
    readable,
    refused_by,
    status_of,
    undone_fields,
)
from diffedit.jobs.store import (
    WORKER_LOST,
    JobPage,
    MaxAttemptsExceeded,
    RecentStages,
    Refusal,
    RefusedBefore,
    StageCompletion,
)


class MemoryJobStore:
    """A `JobStore` in this process."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def create_job(self, job: Job, idempotency_key: str | None = None, request_digest: str | None = None) -> str:
        state = self._state
        with state.lock:
            if job.id in state.records:
                return job.id
            first = state.idempotency.get(idempotency_key) if idempotency_key else None
            if first in state.records:
                recorded = state.records[first].get("request_digest")
                if recorded and request_digest and recorded != request_digest:
                    raise IdempotencyConflict(first)
                return first
            self._check_queue(job)
            record = {**new_fields(job, state.settings.retention), "created": _now()}
            if idempotency_key:
                state.idempotency[idempotency_key] = job.id
                record["idempotency"] = idempotency_key
                if request_digest:
                    record["request_digest"] = request_digest
            state.records[job.id] = record
            self._state.set_waiting(job)
            return job.id

    def discard_job(self, job_id: str) -> None:
        with self._state.lock:
            self._state.clear_open(job_id)
            self._state.records.pop(job_id, None)

    def status(self, job_id: str) -> JobStatus:
        with self._state.lock:
            self.expire_job(job_id)
            return status_of(job_id, self._record(job_id))

    def expire_job(self, job_id: str) -> State | None:
        with self._state.lock:
            return self._outcome(job_id, None)

    def overdue_jobs(self) -> list[str]:
        with self._state.lock:
            return [job_id for job_id in self._state.records if self._is_overdue(job_id)]

    def keys_in_use(self) -> set[str]:
        with self._state.lock:
            unfinished = [record for record in self._state.records.values() if "outcome" not in record]
            return {key for record in unfinished for key in object_keys_in(record)}

    def list_jobs(self, state: State | None = None, limit: int = 50) -> JobPage:
        with self._state.lock:
            statuses, unreadable = readable(dict(reversed(self._state.records.items())))
        found = [status for status in statuses if state is None or status.state is state]
        return JobPage(found[:limit], unreadable)

    def start_stage(self, job_id: str, stage: Stage, worker: str) -> JobStatus:
        with self._state.lock:
            record = self._record(job_id)
            if self._outcome(job_id, None) is not None:
                return status_of(job_id, record)
            if record["next"] != stage.value or self._state.runs_elsewhere(job_id, worker):
                raise JobElsewhere(job_id)
            if is_newer(record):
                raise NewerRecord(job_id)
            refused = refused_by(record, stage)
            others = self._state.has_untried_worker(job_id, self._queue(job_id), refused)
            if self._state.name_of(worker) in refused and others:
                raise RefusedBefore(job_id)
            attempts = int(record.get(f"attempts:{stage.value}", 0))
            if attempts >= self._state.limits.max_attempts:
                raise MaxAttemptsExceeded(record.get(f"cause:{stage.value}", WORKER_LOST))
            self._state.waiting.pop(job_id, None)
            self._state.running[job_id] = worker
            record.setdefault("started", _now())
            record.update({"stage": stage.value, "step": "0", "steps": "0", "worker": worker})
            record[f"attempts:{stage.value}"] = str(attempts + 1)
            return status_of(job_id, record)

    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        with self._state.lock:
            outcome = self._outcome(job_id, worker)
            if outcome is None:
                self._record(job_id).update({"step": str(step), "steps": str(steps)})
            return outcome

    def complete_stage(
        self, job: Job, stage: Stage, seconds: float, created: Sequence[Artifact], worker: str
    ) -> StageCompletion:
        with self._state.lock:
            outcome = self._outcome(job.id, worker)
            if outcome is not None:
                return StageCompletion(outcome)
            self._state.stages.append((time.time(), "done"))
            self._record(job.id).update(done_fields(job, stage, seconds, created))
            known = {job.artifact_keys[each]: job.contents[each] for each in stage.gives if each in job.contents}
            self._state.contents.update(known)
            self._state.clear_open(job.id)
            if job.stages_left:
                self._state.set_waiting(job)
            else:
                self._end(job.id, State.SUCCEEDED)
            artifacts = [job.artifact_keys[artifact] for artifact in stage.gives]
            return StageCompletion(None, self._state.release(artifacts, job.id, worker))

    def contents_of(self, keys: Sequence[str]) -> dict[str, str]:
        with self._state.lock:
            return {key: self._state.contents[key] for key in keys if key in self._state.contents}

    def requeue(self, job: Job, worker: str | None = None, *, count_attempt: bool = True) -> State | None:
        with self._state.lock:
            outcome = self._outcome(job.id, worker)
            if outcome is None:
                if self._state.runs_elsewhere(job.id, worker):
                    raise JobElsewhere(job.id)
                record, attempts = self._record(job.id), f"attempts:{job.stages_left[0].value}"
                if not count_attempt:
                    record[attempts] = str(int(record[attempts]) - 1)
                for name in undone_fields(job):
                    record.pop(name, None)
                self._state.clear_open(job.id)
                self._state.set_waiting(job)
            return outcome

    def refuse_stage(self, job: Job, stage: Stage, worker: str, error: ErrorInfo) -> Refusal:
        state = self._state
        with state.lock:
            outcome = self._outcome(job.id, worker)
            if outcome is not None:
                return Refusal(outcome)
            record, text = self._record(job.id), error.model_dump_json()
            refused = list(dict.fromkeys([*refused_by(record, stage), state.name_of(worker)]))
            record |= {f"refused:{stage.value}": json.dumps(refused), f"refused_error:{stage.value}": text}
            record.setdefault(f"refused_since:{stage.value}", _now())
            state.stages.append((time.time(), "refused"))
            if len(refused) >= state.limits.max_refusals:
                record["error"] = text
                self._end(job.id, State.FAILED)
                return Refusal(State.FAILED)
            record[f"attempts:{stage.value}"] = str(int(record[f"attempts:{stage.value}"]) - 1)
            self._state.clear_open(job.id)
            self._state.set_waiting(job)
            return Refusal(None, state.has_untried_worker(job.id, job.queue_of(stage), refused))

    def refused_jobs(self, patience: float) -> list[str]:
        before = time.time() - patience
        with self._state.lock:
            waiting = {job_id: self._state.records[job_id] for job_id in self._state.waiting}
            return [
                job_id
                for job_id, record in waiting.items()
                if float(record.get(f"refused_since:{record['next']}", "inf")) <= before
            ]

    def end_refused(self, job_id: str) -> State | None:
        with self._state.lock:
            outcome, record = self._outcome(job_id, None), self._record(job_id)
            stage = Stage(record["next"])  # type: ignore[call-arg] # a look-up by value
            error, refused = record.get(f"refused_error:{stage.value}"), refused_by(record, stage)
            if outcome is not None or job_id in self._state.running or not error:
                return outcome
            if self._state.has_untried_worker(job_id, self._queue(job_id), refused):
                return None
            record["error"] = error
            self._end(job_id, State.FAILED)
            return State.FAILED

    def recent_stages(self) -> RecentStages:
        since = time.time() - 600
        recent = [result for at, result in self._state.stages if at >= since]
        return RecentStages(recent.count("done"), recent.count("refused"))

    def end_job(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        assert outcome in TERMINAL
        with self._state.lock:
            earlier = self._outcome(job_id, worker)
            if earlier is None:
                if error:
                    self._record(job_id)["error"] = error.model_dump_json()
                self._end(job_id, outcome)
            return earlier or outcome

    def record_cause(self, job_id: str, stage: Stage, cause: str) -> State | None:
        with self._state.lock:
            outcome = self._outcome(job_id, None)
            if outcome is None:
                self._record(job_id)[f"cause:{stage.value}"] = cause
            return outcome

    def count_retry(self, job_id: str, worker: str) -> State | None:
        with self._state.lock:
            outcome = self._outcome(job_id, worker)
            if outcome is None:
                record = self._record(job_id)
                record["retries"] = str(int(record.get("retries", 0)) + 1)
            return outcome

    def jobs_held_by(self, worker: str) -> list[str]:
        with self._state.lock:
            return [job_id for job_id, holder in self._state.running.items() if holder == worker]

    def orphaned_jobs(self, grace: float) -> list[str]:
        state = self._state
        with state.lock:
            abandoned = [job_id for job_id, worker in state.running.items() if not state.is_alive(worker)]
            return abandoned + [job_id for job_id, since in state.waiting.items() if since <= time.time() - grace]

    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(queues, 0)

    def waiting_jobs(self) -> dict[str, int]:
        with self._state.lock:
            return dict(Counter(map(self._queue, self._state.waiting)))

    def now(self) -> float:
        return time.time()

    def ping(self) -> None:
        pass

    def _record(self, job_id: str) -> dict[str, str]:
        if job_id not in self._state.records:
            raise JobNotFound(job_id)
        return self._state.records[job_id]

    def _queue(self, job_id: str) -> str:
        return status_of(job_id, self._record(job_id)).job.queue

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

    def _check_queue(self, job: Job) -> None:
        lane, profile = job.options.lane, job.request.params.profile
        waiting = [status_of(job_id, self._state.records[job_id]) for job_id in self._state.waiting]
        queued = [one for one in waiting if (one.options.lane, one.request.params.profile) == (lane, profile)]
        if len(queued) >= self._state.settings.max_queued:
            raise QueueFull(lane.value, profile, self._state.settings.max_queued)

    def _is_overdue(self, job_id: str) -> bool:
        with suppress(BadRecord):  # the job fails when a worker reads its record
            return status_of(job_id, self._state.records[job_id]).is_overdue
        return False

    def _end(self, job_id: str, outcome: State) -> None:
        self._state.records[job_id].update({"outcome": outcome.value, "finished": _now()})
        self._state.clear_open(job_id)


def _now() -> str:
    return f"{time.time():.6f}"
