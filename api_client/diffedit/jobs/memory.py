"""Doubles of the board and the store in memory, for unit tests of your own code and ours.

They keep the interface and the promises of the real ones (the same tests run over both), and nothing else.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import BadRecord, JobElsewhere, JobNotFound, QueueFull
from diffedit.jobs.records import done_fields, new_fields, readable, status_of, undone_fields
from diffedit.jobs.store import WORKER_LOST, LockResult, MaxAttemptsExceeded, StageCompletion, WorkerInfo
from diffedit.settings import Settings


class MemoryJobStore:
    """A `Board` in this process. It has no queues, so that to it no waiting job has a message."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._lock = threading.RLock()
        self._records: dict[str, dict[str, str]] = {}
        self._first: dict[str, str] = {}
        self._workers: dict[str, tuple[float, WorkerInfo]] = {}
        self._running: dict[str, str] = {}
        self._waiting: dict[str, float] = {}
        self._making: dict[str, tuple[str, str]] = {}
        self._made: dict[str, float] = {}
        self._parked: dict[str, set[str]] = {}
        self._leader = ("", 0.0)

    def create_job(self, job: Job, idempotency_key: str | None = None) -> str:
        with self._lock:
            first = self._first.get(idempotency_key) if idempotency_key else None
            if first in self._records:
                return first
            if job.id in self._records:
                return job.id
            self._admit(job)
            if idempotency_key:
                self._first[idempotency_key] = job.id
            self._records[job.id] = {**new_fields(job), "created": _now()}
            self._wait(job)
            return job.id

    def discard_job(self, job_id: str) -> None:
        with self._lock:
            self._no_longer_open(job_id)
            self._records.pop(job_id, None)

    def status(self, job_id: str) -> JobStatus:
        with self._lock:
            self.expire_job(job_id)
            return status_of(job_id, self._fields(job_id))

    def expire_job(self, job_id: str) -> State | None:
        with self._lock:
            return self._outcome(job_id, None)

    def overdue_jobs(self) -> list[str]:
        with self._lock:
            return [job_id for job_id in self._records if self._overdue(job_id)]

    def unfinished_jobs(self) -> list[JobStatus]:
        return [status for status in self.list_jobs(limit=len(self._records)) if not status.is_terminal]

    def list_jobs(self, state: State | None = None, limit: int = 50) -> list[JobStatus]:
        with self._lock:
            statuses = readable(dict(reversed(self._records.items())))
        return [status for status in statuses if state is None or status.state is state][:limit]

    def start_stage(self, job_id: str, stage: Stage, worker: str) -> JobStatus:
        with self._lock:
            fields = self._fields(job_id)
            if self._outcome(job_id, None) is not None:
                return status_of(job_id, fields)
            if fields["next"] != stage.value or self._held_by_another(job_id, worker):
                raise JobElsewhere(job_id)
            attempts = int(fields.get(f"attempts:{stage.value}", 0))
            if attempts >= self._settings.max_attempts:
                raise MaxAttemptsExceeded(fields.get(f"cause:{stage.value}", WORKER_LOST))
            self._waiting.pop(job_id, None)
            self._running[job_id] = worker
            fields.setdefault("started", _now())
            fields.update({"stage": stage.value, "step": "0", "steps": "0", "worker": worker})
            fields[f"attempts:{stage.value}"] = str(attempts + 1)
            return status_of(job_id, fields)

    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        with self._lock:
            outcome = self._outcome(job_id, worker)
            if outcome is None:
                self._records[job_id].update({"step": str(step), "steps": str(steps)})
            return outcome

    def complete_stage(
        self, job: Job, stage: Stage, seconds: float, made: Sequence[Artifact], worker: str
    ) -> StageCompletion:
        with self._lock:
            outcome = self._outcome(job.id, worker)
            if outcome is not None:
                return StageCompletion(outcome)
            self._records[job.id].update(done_fields(job, stage, seconds, made))
            self._no_longer_open(job.id)
            if job.stages_left:
                self._wait(job)
            else:
                self._end(job.id, State.SUCCEEDED)
            return StageCompletion(
                None, self.release_locks([job.artifact_keys[artifact] for artifact in stage.gives], job.id, worker)
            )

    def requeue(self, job: Job, worker: str | None = None, *, refund: bool = False) -> State | None:
        with self._lock:
            outcome = self._outcome(job.id, worker)
            if outcome is None:
                if self._held_by_another(job.id, worker):
                    raise JobElsewhere(job.id)
                fields, attempts = self._records[job.id], f"attempts:{job.stages_left[0].value}"
                if refund:
                    fields[attempts] = str(int(fields[attempts]) - 1)
                for name in undone_fields(job):
                    fields.pop(name, None)
                self._no_longer_open(job.id)
                self._wait(job)
            return outcome

    def end_job(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        assert outcome in TERMINAL
        with self._lock:
            earlier = self._outcome(job_id, worker)
            if earlier is None:
                if error:
                    self._records[job_id]["error"] = error.model_dump_json()
                self._end(job_id, outcome)
            return earlier or outcome

    def record_cause(self, job_id: str, stage: Stage, cause: str) -> None:
        self._fields(job_id)[f"cause:{stage.value}"] = cause

    def count_retry(self, job_id: str, worker: str) -> State | None:
        with self._lock:
            outcome = self._outcome(job_id, worker)
            if outcome is None:
                fields = self._records[job_id]
                fields["retries"] = str(int(fields.get("retries", 0)) + 1)
            return outcome

    def acquire_locks(self, keys: Sequence[str], job_id: str, worker: str) -> LockResult:
        with self._lock:
            for key in keys:
                maker, cause = self._making.get(key, (worker, job_id))
                if cause != job_id and self._running.get(cause) == maker and self._alive(maker):
                    self._parked.setdefault(key, set()).add(job_id)
                    return LockResult.TAKEN
            just_made = any(self._made.get(key, float("-inf")) > time.monotonic() - 3600 for key in keys)
            self._making.update(dict.fromkeys(keys, (worker, job_id)))
            return LockResult.JUST_MADE if just_made else LockResult.GRANTED

    def release_locks(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        with self._lock:
            mine = [key for key in keys if self._making.get(key) == (worker, job_id)]
            for key in mine:
                del self._making[key]
                self._made[key] = time.monotonic()
            return [job_id for key in mine for job_id in self._parked.pop(key, ())]

    def jobs_held_by(self, worker: str) -> list[str]:
        with self._lock:
            return [job_id for job_id, holder in self._running.items() if holder == worker]

    def orphaned_jobs(self, grace: float) -> list[str]:
        with self._lock:
            abandoned = [job_id for job_id, worker in self._running.items() if not self._alive(worker)]
            return abandoned + [job_id for job_id, since in self._waiting.items() if since <= time.time() - grace]

    def acquire_leadership(self, worker: str, seconds: float) -> bool:
        with self._lock:
            leader, until = self._leader
            if leader != worker and until > time.monotonic():
                return False
            self._leader = (worker, time.monotonic() + seconds)
            return True

    def send_heartbeat(self, worker: WorkerInfo) -> None:
        self._workers[worker.id] = (time.monotonic() + self._settings.worker_ttl, worker)

    def unregister(self, worker: str) -> None:
        self._workers.pop(worker, None)

    def workers(self) -> list[WorkerInfo]:
        living = [worker for _, worker in self._workers.values() if self._alive(worker.id)]
        return sorted(living, key=lambda worker: worker.name)

    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        return dict.fromkeys(queues, 0)

    def ping(self) -> None:
        pass

    def _fields(self, job_id: str) -> dict[str, str]:
        if job_id not in self._records:
            raise JobNotFound(job_id)
        return self._records[job_id]

    def _outcome(self, job_id: str, worker: str | None) -> State | None:
        """The outcome if the job has ended; raises JobElsewhere if it is not this worker's."""
        fields = self._fields(job_id)
        if self._overdue(job_id):
            self._end(job_id, State.EXPIRED)
        if "outcome" in fields:
            return State(fields["outcome"])
        if worker is not None and self._running.get(job_id) != worker:
            raise JobElsewhere(job_id)
        return None

    def _admit(self, job: Job) -> None:
        lane, profile = job.options.lane, job.request.params.profile
        waiting = [status_of(job_id, self._records[job_id]) for job_id in self._waiting]
        queued = [one for one in waiting if (one.options.lane, one.request.params.profile) == (lane, profile)]
        if len(queued) >= self._settings.max_queued:
            raise QueueFull(lane.value, profile, self._settings.max_queued)

    def _overdue(self, job_id: str) -> bool:
        with suppress(BadRecord):  # it fails when a worker looks at it
            return status_of(job_id, self._records[job_id]).is_overdue
        return False

    def _held_by_another(self, job_id: str, worker: str | None) -> bool:
        holder = self._running.get(job_id)
        return holder is not None and holder != worker and self._alive(holder)

    def _alive(self, worker: str) -> bool:
        return worker in self._workers and self._workers[worker][0] > time.monotonic()

    def _wait(self, job: Job) -> None:
        self._records[job.id]["next"] = job.stages_left[0].value
        self._waiting[job.id] = time.time()

    def _no_longer_open(self, job_id: str) -> None:
        self._running.pop(job_id, None)
        self._waiting.pop(job_id, None)

    def _end(self, job_id: str, outcome: State) -> None:
        self._records[job_id].update({"outcome": outcome.value, "finished": _now()})
        self._no_longer_open(job_id)


def _now() -> str:
    return str(time.time())
