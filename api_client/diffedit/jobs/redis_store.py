"""The job records in Redis or Valkey: a hash for each job, and each change one atomic script (`lua/`)."""

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import cast

import redis

from diffedit.contract import versions
from diffedit.contract.content import is_content
from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, ModelGroup, Stage, queue_name
from diffedit.errors import BadRecord, IdempotencyConflict, JobNotFound, NewerRecord, QueueFull
from diffedit.jobs import keys
from diffedit.jobs.records import (
    done_fields,
    is_newer,
    new_fields,
    object_keys_in,
    readable,
    recent_stages_in,
    status_of,
    undone_fields,
)
from diffedit.jobs.redis_lost_jobs import RedisLostJobs
from diffedit.jobs.redis_server import RedisServer, outcome_of, translate_errors
from diffedit.jobs.store import (
    PREVIEW_SECONDS,
    WATCHED_SECONDS,
    WORKER_LOST,
    JobPage,
    MaxAttemptsExceeded,
    MustRunAlone,
    RecentStages,
    Refusal,
    RefusedBefore,
    StageCompletion,
    StepReport,
)
from diffedit.jobs.workers import WorkerLimits
from diffedit.settings import Settings

_PAGE = 500
RECENT_MINUTES = 10


class RedisJobStore(RedisLostJobs):
    """A `JobStore` in Redis or Valkey."""

    def __init__(self, server: RedisServer, settings: Settings, limits: WorkerLimits) -> None:
        super().__init__(server)
        self._settings = settings
        self._limits = limits

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
        status = self._status_of(job_id, self._entries.records([job_id])[job_id])
        # If no worker is up, nobody else ends the job.
        if status.is_overdue and self.expire_job(job_id):
            return self.status(job_id)
        return status

    @translate_errors
    def expire_job(self, job_id: str) -> State | None:
        return outcome_of(job_id, self._server.run("expire_job", job_id=job_id))

    @translate_errors
    def keys_in_use(self) -> set[str]:
        waiting = [("zrange", keys.WAITING + queue, 0, -1) for queue in self._waiting_queues()]
        ids = sorted({*self._running(), *chain.from_iterable(self._entries.read_all(waiting))})
        used: set[str] = set()
        for start in range(0, len(ids), _PAGE):
            records = self._entries.records(ids[start : start + _PAGE])
            used.update(key for fields in records.values() for key in object_keys_in(fields or {}))
        return used

    @translate_errors
    def list_jobs(self, state: State | None = None, limit: int = 50) -> JobPage:
        found: list[JobStatus] = []
        unreadable: list[str] = []
        start, page = 0, max(limit, 50)
        while len(found) < limit:
            ids = cast(list[str], self._entries.read("zrevrange", keys.INDEX, start, start + page - 1))
            if not ids:
                break
            records = self._entries.records(ids)
            expired = [job_id for job_id, fields in records.items() if fields == {}]
            if expired:
                self._redis.zrem(keys.INDEX, *expired)
            statuses, damaged = readable(records)
            found += [status for status in statuses if state is None or status.state is state]
            unreadable += damaged
            self._entries.note(keys.job_key(job_id) for job_id in damaged if not is_newer(records[job_id] or {}))
            start += page - len(expired)
        return JobPage(found[:limit], unreadable)

    @translate_errors
    def start_stage(self, job_id: str, stage: Stage, worker: str, *, alone: bool = True) -> JobStatus:
        answer = self._server.run(
            "start_stage",
            job_id=job_id,
            worker=worker,
            stage=stage.value,
            max_attempts=self._limits.max_attempts,
            contract=versions.CONTRACT,
            alone=alone,
        )
        if answer == "max_attempts":
            cause = cast(str | None, self._redis.hget(keys.job_key(job_id), f"cause:{stage.value}"))
            raise MaxAttemptsExceeded(cause or WORKER_LOST)
        if answer == "refused":
            raise RefusedBefore(job_id)
        if answer == "alone":
            raise MustRunAlone(job_id)
        if isinstance(answer, list):
            return self._status_of(job_id, dict(zip(answer[::2], answer[1::2], strict=True)))
        outcome_of(job_id, answer)
        return self.status(job_id)

    @translate_errors
    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> StepReport:
        answer = self._server.run("report_step", job_id=job_id, worker=worker, step=step, steps=steps)
        return StepReport(None, watched=True) if answer == "watched" else StepReport(outcome_of(job_id, answer))

    @translate_errors
    def publish_preview(self, job_id: str, data: bytes) -> None:
        self._redis.set(keys.PREVIEW + job_id, base64.b64encode(data), ex=PREVIEW_SECONDS)

    @translate_errors
    def preview(self, job_id: str) -> bytes | None:
        self._redis.set(keys.WATCHED + job_id, "", ex=WATCHED_SECONDS)
        text = cast(str | None, self._entries.read("get", keys.PREVIEW + job_id))
        with suppress(ValueError):
            return base64.b64decode(text, validate=True) if text else None
        self._entries.note([keys.PREVIEW + job_id])
        return None

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
    def requeue(
        self, job: Job, worker: str | None = None, *, count_attempt: bool = True, waited: float | None = None
    ) -> State | None:
        answer = self._server.run(
            "requeue",
            job_id=job.id,
            worker=worker,
            stage=job.stages_left[0].value,
            queue=job.queue,
            count_attempt=count_attempt,
            waited=waited,
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
    def end_refused(self, job_id: str) -> State | None:
        return outcome_of(job_id, self._server.run("end_refused", job_id=job_id))

    @translate_errors
    def recent_stages(self) -> RecentStages:
        minute = int(self._server.now() // 60)
        names = [f"{keys.STAGES}{minute - past}" for past in range(RECENT_MINUTES)]
        found = self._entries.read_all([("hgetall", name) for name in names])
        counts = {name: recent_stages_in(fields) for name, fields in zip(names, found, strict=True)}
        self._entries.note(name for name, count in counts.items() if count is None)
        known = [count for count in counts.values() if count]
        return RecentStages(sum(count.done for count in known), sum(count.refused for count in known))

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
    def queue_lengths(self, queues: Sequence[str]) -> dict[str, int]:
        return dict(zip(queues, self._entries.read_all([("llen", queue) for queue in queues]), strict=True))

    @translate_errors
    def waiting_jobs(self) -> dict[str, int]:
        queues = self._waiting_queues()
        waiting = self._entries.read_all([("zcard", keys.WAITING + queue) for queue in queues])
        return {queue: number for queue, number in zip(queues, waiting, strict=True) if number}

    @translate_errors
    def damaged_keys(self) -> list[str]:
        return self._entries.damaged()

    @translate_errors
    def now(self) -> float:
        return self._server.now()

    @translate_errors
    def ping(self) -> None:
        self._redis.set(keys.PING, "", px=1)  # a server that refuses writes is of no use

    def _status_of(self, job_id: str, fields: Mapping[str, str] | None) -> JobStatus:
        if fields == {}:
            raise JobNotFound(job_id)
        try:
            return status_of(job_id, fields)
        except BadRecord as error:
            if not isinstance(error, NewerRecord):
                self._entries.note([keys.job_key(job_id)])
            raise
