"""The job records in the memory of this process: a double for unit tests, with the same behaviour as Redis.

There are no queues: a message that is sent is lost, and every waiting job counts as a job without a message.
"""

import json
import time
from collections.abc import Mapping, Sequence

from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import IdempotencyConflict, JobElsewhere, NewerRecord
from diffedit.jobs.keys import job_key
from diffedit.jobs.memory_administration import MemoryAdministration
from diffedit.jobs.memory_queues import MemoryQueues
from diffedit.jobs.memory_state import can_try
from diffedit.jobs.memory_statuses import now_text
from diffedit.jobs.memory_submissions import MemorySubmissions
from diffedit.jobs.record_objects import object_keys_in
from diffedit.jobs.records import (
    content_fields,
    done_fields,
    is_newer,
    new_fields,
    readable,
    refused_by,
    status_of,
    undone_fields,
)
from diffedit.jobs.steps import PREVIEW_SECONDS, WATCHED_SECONDS, StepReport
from diffedit.jobs.store import (
    WORKER_LOST,
    MaxAttemptsExceeded,
    MustRunAlone,
    OwnerBusy,
    QueuePaused,
    RecentStages,
    Refusal,
    RefusedBefore,
    StageCompletion,
)


class MemoryJobStore(MemoryAdministration, MemoryQueues, MemorySubmissions):
    """A `JobStore` in this process."""

    def create_job(
        self,
        job: Job,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
        *,
        pixels: int | None = None,
        send: bool = False,
    ) -> str:
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
            self._state.check_queue(job)
            self._check_owner_limits(job, pixels)
            record = {**new_fields(job, state.settings.retention), "created": now_text()}
            if pixels is not None:
                record["pixels"] = str(pixels)
            if idempotency_key:
                state.idempotency[idempotency_key] = job.id
                record["idempotency"] = idempotency_key
                if request_digest:
                    record["request_digest"] = request_digest
            if durations := state.durations.get(job.request.params.profile):
                record["expected"] = " ".join(f"{stage} {seconds:.3f}" for stage, seconds in durations.items())
            state.records[job.id] = record
            state.submitted[job.id] = time.time()
            state.note_epoch()
            self._state.set_waiting(job)
            return job.id

    def discard_job(self, job_id: str) -> None:
        with self._state.lock:
            self._forget(job_id)

    def keys_in_use(self) -> set[str]:
        with self._state.lock:
            unfinished = [record for record in self._state.records.values() if "outcome" not in record]
            return {key for record in unfinished for key in object_keys_in(record)}

    def start_stage(self, job_id: str, stage: Stage, worker: str, *, alone: bool = True) -> JobStatus:
        with self._state.lock:
            record = self._record(job_id)
            if self._outcome(job_id, None) is not None:
                return status_of(job_id, record)
            if record["next"] != stage.value or self._state.runs_elsewhere(job_id, worker):
                raise JobElsewhere(job_id)
            if is_newer(record):
                raise NewerRecord(job_id)
            if "moved" in record and not self._state.reads(worker, record["queue"]):
                raise JobElsewhere(job_id)
            if self._queue(job_id) in self._state.paused:
                raise QueuePaused(job_id)
            refused = refused_by(record, stage)
            workers = self._state.workers_of(job_id, self._queue(job_id))
            if self._state.name_of(worker) in refused and can_try(workers, refused):
                raise RefusedBefore(job_id)
            attempts = int(record.get(f"attempts:{stage.value}", 0))
            if attempts >= self._state.limits.max_attempts:
                raise MaxAttemptsExceeded(record.get(f"cause:{stage.value}", WORKER_LOST))
            if not alone and (attempts or self._state.limits.max_attempts == 1):
                raise MustRunAlone(job_id)
            if "started" not in record and self._room_of(record.get("owner")) < 1:
                raise OwnerBusy(job_id)
            due_at = self._state.waiting.get(job_id)
            self._state.clear_open(job_id)
            self._state.running[job_id] = worker
            if "started" not in record:
                record["started"] = now_text()
                self._state.queue_webhook(job_id, "started")
            record.update({"stage": stage.value, "step": "0", "steps": "0", "worker": worker})
            record[f"attempts:{stage.value}"] = str(attempts + 1)
            record.pop(f"waited:{stage.value}", None)
            if due_at:
                record[f"waited:{stage.value}"] = f"{max(time.time() - due_at, 0.0):.3f}"
            return status_of(job_id, record)

    def park_job(self, job: Job) -> State | None:
        with self._state.lock:
            outcome = self._outcome(job.id, None)
            if outcome is None and self._room_of(job.options.owner) < 1:
                self._state.parked[job.id] = time.time()
            return outcome

    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> StepReport:
        with self._state.lock:
            outcome = self._outcome(job_id, worker)
            if outcome is None:
                self._record(job_id).update({"step": str(step), "steps": str(steps)})
            return StepReport(outcome, outcome is None and self._state.watched_until.get(job_id, 0) > time.monotonic())

    def publish_preview(self, job_id: str, data: bytes) -> None:
        with self._state.lock:
            if job_id in self._state.records:
                self._state.previews[job_id] = (time.monotonic() + PREVIEW_SECONDS, data)

    def preview(self, job_id: str) -> bytes | None:
        self._state.watched_until[job_id] = time.monotonic() + WATCHED_SECONDS
        until, data = self._state.previews.get(job_id, (0.0, b""))
        return data if until > time.monotonic() else None

    def complete_stage(
        self,
        job: Job,
        stage: Stage,
        seconds: float,
        created: Sequence[Artifact],
        worker: str,
        *,
        device_seconds: float = 0.0,
        send: bool = False,
    ) -> StageCompletion:
        with self._state.lock:
            outcome = self._outcome(job.id, worker)
            if outcome is not None:
                return StageCompletion(outcome)
            self._state.stages.append((time.time(), "done"))
            record = self._record(job.id)
            record["used"] = str(float(record.get("used", 0)) + device_seconds)
            record |= done_fields(job, stage, seconds, created)
            for name in (f"refused_since:{stage.value}", f"refused_error:{stage.value}"):
                record.pop(name, None)
            record |= content_fields(job, stage, record[f"attempts:{stage.value}"])
            known = {job.artifact_keys[each]: job.contents[each] for each in stage.gives if each in job.contents}
            self._state.contents.update(known)
            if created:
                durations = self._state.durations.setdefault(job.request.params.profile, {})
                before = durations.get(stage.value, seconds)
                durations[stage.value] = before + (seconds - before) / 8
            self._state.clear_open(job.id)
            if job.stages_left:
                self._state.set_waiting(job)
            else:
                self._end(job.id, State.SUCCEEDED)
            artifacts = [job.artifact_keys[artifact] for artifact in stage.gives]
            return StageCompletion(None, self._state.release(artifacts, job.id, worker))

    def contents_of(self, artifact_keys: Sequence[str]) -> dict[str, str]:
        with self._state.lock:
            return {key: self._state.contents[key] for key in artifact_keys if key in self._state.contents}

    def record_contents(self, contents: Mapping[str, str]) -> None:
        with self._state.lock:
            self._state.contents.update(contents)

    def requeue(
        self,
        job: Job,
        worker: str | None = None,
        *,
        count_attempt: bool = True,
        attempt: int | None = None,
        waited: float | None = None,
    ) -> State | None:
        with self._state.lock:
            outcome = self._outcome(job.id, worker)
            if outcome is None:
                record, attempts = self._record(job.id), f"attempts:{job.stages_left[0].value}"
                early = waited and job.id in self._state.waiting and not self._has_waited(job.id, waited)
                if early or self._state.has_gone_on(job, attempt) or self._state.runs_elsewhere(job.id, worker):
                    raise JobElsewhere(job.id)
                if not count_attempt:
                    record[attempts] = str(int(record[attempts]) - 1)
                for name in undone_fields(job):
                    record.pop(name, None)
                self._state.clear_open(job.id)
                self._state.set_waiting(job)
            return outcome

    def refuse_stage(self, job: Job, stage: Stage, worker: str, error: ErrorInfo) -> Refusal:
        state, limits = self._state, self._state.limits
        with state.lock:
            outcome = self._outcome(job.id, worker)
            if outcome is not None:
                return Refusal(outcome)
            record, text = self._record(job.id), error.model_dump_json()
            before = refused_by(record, stage) if f"refused_since:{stage.value}" in record else ()
            refused = list(dict.fromkeys([*before, state.name_of(worker)]))
            record |= {f"refused:{stage.value}": json.dumps(refused), f"refused_error:{stage.value}": text}
            since = float(record.setdefault(f"refused_since:{stage.value}", now_text()))
            state.stages.append((time.time(), "refused"))
            others = can_try(state.workers_of(job.id, job.queue_of(stage)), refused)
            impatient = not others and state.heartbeats_are_complete and time.time() - since >= limits.refusal_patience
            if len(refused) >= limits.max_refusals or impatient:
                record["error"] = text
                self._end(job.id, State.FAILED)
                return Refusal(State.FAILED)
            record[f"attempts:{stage.value}"] = str(int(record[f"attempts:{stage.value}"]) - 1)
            state.clear_open(job.id)
            state.set_waiting(job)
            return Refusal(None, others)

    def end_refused(self, job_id: str) -> State | None:
        with self._state.lock:
            outcome, record = self._outcome(job_id, None), self._record(job_id)
            error = record.get(f"refused_error:{record['next']}")
            if outcome is not None or job_id in self._state.running or not error:
                return outcome
            workers = self._state.workers_of(job_id, self._queue(job_id))
            if not workers or can_try(workers, ()) or not self._state.heartbeats_are_complete:
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

    def damaged_keys(self) -> list[str]:
        with self._state.lock:
            records = self._state.records
            return [job_key(job_id) for job_id in readable(records)[1] if not is_newer(records[job_id])]

    def now(self) -> float:
        return time.time()

    def ping(self) -> None:
        pass

    def _queue(self, job_id: str) -> str:
        return self._record(job_id)["queue"]
