"""The job records in Redis or Valkey: a hash for each job, and each change one atomic script (`lua/`)."""

import json
from collections.abc import Sequence
from typing import cast

import redis

from diffedit.contract import versions
from diffedit.contract.content import is_content
from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, ModelGroup, Stage, queue_name
from diffedit.errors import IdempotencyConflict, JobNotFound, QueueFull
from diffedit.jobs import keys
from diffedit.jobs.records import done_fields, new_fields, object_keys_in, readable, status_of, undone_fields
from diffedit.jobs.redis_server import RedisServer, outcome_of, translate_errors
from diffedit.jobs.store import (
    WORKER_LOST,
    JobPage,
    MaxAttemptsExceeded,
    RecentStages,
    Refusal,
    RefusedBefore,
    StageCompletion,
)
from diffedit.jobs.workers import WorkerLimits, WorkerRegistry
from diffedit.settings import Settings

_PAGE = 500
RECENT_MINUTES = 10


class RedisJobStore:
    """A `JobStore` in Redis or Valkey."""

    def __init__(self, server: RedisServer, registry: WorkerRegistry, settings: Settings, limits: WorkerLimits) -> None:
        self._server = server
        self._settings = settings
        self._limits = limits
        self._registry = registry

    @property
    def _redis(self) -> redis.Redis:
        return self._server.connection

    @translate_errors
    def create_job(self, job: Job, idempotency_key: str | None = None, request_digest: str | None = None) -> str:
        options, profile, settings = job.options, job.request.params.profile, self._settings
        answer = self._server.run(
            "create_job",
            job_id=job.id,
            stage=job.stages_left[0].value,
            queue=job.queue,
            queues=[queue_name(profile, group, options.lane) for group in ModelGroup],
            max_queued=settings.max_queued,
            fields=new_fields(job, settings.retention),
            idempotency_key=idempotency_key,
            request_digest=request_digest,
            start_timeout=options.start_timeout,
            deadline=options.deadline,
        )
        if answer == "full":
            raise QueueFull(options.lane.value, profile, settings.max_queued)
        if isinstance(answer, list):
            raise IdempotencyConflict(answer[1])
        return cast(str, answer)

    @translate_errors
    def discard_job(self, job_id: str) -> None:
        self._server.run("discard_job", job_id=job_id)

    @translate_errors
    def status(self, job_id: str) -> JobStatus:
        fields = cast(dict[str, str], self._redis.hgetall(keys.job_key(job_id)))
        if not fields:
            raise JobNotFound(job_id)
        status = status_of(job_id, fields)
        # If no worker is up, nobody else ends the job.
        if status.is_overdue and self.expire_job(job_id):
            return self.status(job_id)
        return status

    @translate_errors
    def expire_job(self, job_id: str) -> State | None:
        return outcome_of(job_id, self._server.run("expire_job", job_id=job_id))

    @translate_errors
    def overdue_jobs(self) -> list[str]:
        return cast(list[str], self._redis.zrangebyscore(keys.EXPIRING, "-inf", self._server.now()))

    @translate_errors
    def keys_in_use(self) -> set[str]:
        ids = set(cast(list[str], self._redis.hkeys(keys.RUNNING)))
        for queue in self._waiting_queues():
            ids.update(cast(list[str], self._redis.zrange(keys.WAITING + queue, 0, -1)))
        return {key for fields in self._records(sorted(ids)).values() for key in object_keys_in(fields)}

    @translate_errors
    def list_jobs(self, state: State | None = None, limit: int = 50) -> JobPage:
        found: list[JobStatus] = []
        unreadable: list[str] = []
        start, page = 0, max(limit, 50)
        while len(found) < limit:
            ids = cast(list[str], self._redis.zrevrange(keys.INDEX, start, start + page - 1))
            if not ids:
                break
            records = self._records(ids)
            expired = [job_id for job_id, fields in records.items() if not fields]
            if expired:
                self._redis.zrem(keys.INDEX, *expired)
            statuses, damaged = readable(records)
            found += [status for status in statuses if state is None or status.state is state]
            unreadable += damaged
            start += page - len(expired)
        return JobPage(found[:limit], unreadable)

    @translate_errors
    def start_stage(self, job_id: str, stage: Stage, worker: str) -> JobStatus:
        answer = self._server.run(
            "start_stage",
            job_id=job_id,
            worker=worker,
            stage=stage.value,
            max_attempts=self._limits.max_attempts,
            contract=versions.CONTRACT,
        )
        if answer == "max_attempts":
            cause = cast(str | None, self._redis.hget(keys.job_key(job_id), f"cause:{stage.value}"))
            raise MaxAttemptsExceeded(cause or WORKER_LOST)
        if answer == "refused":
            raise RefusedBefore(job_id)
        if isinstance(answer, list):
            return status_of(job_id, dict(zip(answer[::2], answer[1::2], strict=True)))
        outcome_of(job_id, answer)
        return self.status(job_id)

    @translate_errors
    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> State | None:
        answer = self._server.run("report_step", job_id=job_id, worker=worker, step=step, steps=steps)
        return outcome_of(job_id, answer)

    @translate_errors
    def complete_stage(
        self, job: Job, stage: Stage, seconds: float, created: Sequence[Artifact], worker: str
    ) -> StageCompletion:
        answer = self._server.run(
            "complete_stage",
            job_id=job.id,
            worker=worker,
            done=stage.value,
            fields=done_fields(job, stage, seconds, created),
            artifacts=[job.artifact_keys[artifact] for artifact in stage.gives],
            contents={each.value: job.contents[each] for each in stage.gives if each in job.contents},
            stage=job.stages_left[0].value if job.stages_left else None,
            queue=job.queue if job.stages_left else None,
        )
        waiters = answer if isinstance(answer, list) else []
        return StageCompletion(None if answer is waiters else outcome_of(job.id, answer), waiters)

    @translate_errors
    def contents_of(self, artifact_keys: Sequence[str]) -> dict[str, str]:
        names = [keys.CONTENT + key for key in artifact_keys]
        found = cast(list[str | None], self._redis.mget(names) if names else [])
        return {key: text for key, text in zip(artifact_keys, found, strict=True) if text and is_content(text)}

    @translate_errors
    def requeue(self, job: Job, worker: str | None = None, *, count_attempt: bool = True) -> State | None:
        answer = self._server.run(
            "requeue",
            job_id=job.id,
            worker=worker,
            stage=job.stages_left[0].value,
            queue=job.queue,
            count_attempt=count_attempt,
            forget=undone_fields(job),
        )
        return outcome_of(job.id, answer)

    @translate_errors
    def refuse_stage(self, job: Job, stage: Stage, worker: str, error: ErrorInfo) -> Refusal:
        answer = self._server.run(
            "refuse_stage",
            job_id=job.id,
            worker=worker,
            stage=stage.value,
            queue=job.queue_of(stage),
            error=error.model_dump_json(),
            max_refusals=self._limits.max_refusals,
            patience=self._limits.refusal_patience,
        )
        outcome, others = answer if isinstance(answer, list) else (answer, 0)
        return Refusal(outcome_of(job.id, outcome), bool(others))

    @translate_errors
    def refused_jobs(self, patience: float) -> list[str]:
        return cast(list[str], self._redis.zrangebyscore(keys.REFUSED, "-inf", self._server.now() - patience))

    @translate_errors
    def end_refused(self, job_id: str) -> State | None:
        return outcome_of(job_id, self._server.run("end_refused", job_id=job_id))

    @translate_errors
    def recent_stages(self) -> RecentStages:
        minute = int(self._server.now() // 60)
        with self._redis.pipeline(transaction=False) as pipe:
            for past in range(RECENT_MINUTES):
                pipe.hgetall(f"{keys.STAGES}{minute - past}")
            counts = pipe.execute()
        return RecentStages(*(sum(int(each.get(result, 0)) for each in counts) for result in RecentStages._fields))

    @translate_errors
    def end_job(self, job_id: str, outcome: State, error: ErrorInfo | None = None, worker: str | None = None) -> State:
        assert outcome in TERMINAL
        text = error.model_dump_json() if error else None
        answer = self._server.run("end_job", job_id=job_id, worker=worker, outcome=outcome.value, error=text)
        return outcome_of(job_id, answer) or outcome

    @translate_errors
    def record_cause(self, job_id: str, stage: Stage, cause: str) -> State | None:
        answer = self._server.run("record_cause", job_id=job_id, stage=stage.value, cause=cause)
        return outcome_of(job_id, answer)

    @translate_errors
    def count_retry(self, job_id: str, worker: str) -> State | None:
        return outcome_of(job_id, self._server.run("count_retry", job_id=job_id, worker=worker))

    @translate_errors
    def jobs_held_by(self, worker: str) -> list[str]:
        return [job_id for job_id, holder in self._running().items() if holder == worker]

    @translate_errors
    def orphaned_jobs(self, grace: float) -> list[str]:
        live = {worker.id for worker in self._registry.workers()}
        orphans = [job_id for job_id, worker in self._running().items() if worker not in live]
        since = self._server.now() - grace
        for queue in self._waiting_queues():
            overdue = self._waiting_since(queue, since)
            orphans += sorted(overdue - self._jobs_in(queue)) if overdue else []
        return orphans

    @translate_errors
    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.llen(queue)
            return dict(zip(queues, pipe.execute(), strict=True))

    @translate_errors
    def waiting_jobs(self) -> dict[str, int]:
        queues = sorted(self._waiting_queues())
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.zcard(keys.WAITING + queue)
            return {queue: waiting for queue, waiting in zip(queues, pipe.execute(), strict=True) if waiting}

    @translate_errors
    def now(self) -> float:
        return self._server.now()

    @translate_errors
    def ping(self) -> None:
        self._redis.set(keys.PING, "", px=1)  # a server that refuses writes is of no use

    def _running(self) -> dict[str, str]:
        return cast(dict[str, str], self._redis.hgetall(keys.RUNNING))

    def _waiting_queues(self) -> set[str]:
        return cast(set[str], self._redis.smembers(keys.WAITING_QUEUES))

    def _waiting_since(self, queue: str, since: float) -> set[str]:
        """Return the jobs that have waited since before `since`, or none if the queue has a message for each job."""
        with self._redis.pipeline() as pipe:
            pipe.zcard(keys.WAITING + queue)
            pipe.llen(queue)
            pipe.zrangebyscore(keys.WAITING + queue, "-inf", since)
            waiting, messages, overdue = pipe.execute()
        return set(overdue) if waiting > messages else set()

    def _jobs_in(self, queue: str) -> set[str]:
        """Return the jobs that have a message in the queue."""
        found: set[str] = set()
        start = 0
        while messages := cast(list[str], self._redis.lrange(queue, start, start + _PAGE - 1)):
            found.update(_job_of(message) for message in messages)
            start += _PAGE
        return found

    def _records(self, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(keys.job_key(job_id))
            return dict(zip(ids, pipe.execute(), strict=True))


def _job_of(message: str) -> str:
    """Return the job id in the header of a queued message (see `dispatch.send`); "" if the message is not ours."""
    try:
        return str(json.loads(message)["headers"]["job_id"])
    except (ValueError, KeyError, TypeError):
        return ""
