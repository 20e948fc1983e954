"""The job records in Redis or Valkey: a hash for each job, and each change one atomic script (`lua/`)."""

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import cast

from diffedit.contract import versions
from diffedit.contract.content import is_content
from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobStatus, State
from diffedit.contract.stages import Artifact, ModelGroup, Stage, queue_name
from diffedit.errors import IdempotencyConflict, JobNotFound, OwnerLimit, QueueFull
from diffedit.jobs import keys
from diffedit.jobs.messages import queue_message
from diffedit.jobs.record_objects import object_keys_in
from diffedit.jobs.records import done_fields, new_fields, recent_stages_in, undone_fields
from diffedit.jobs.redis_administration import RedisAdministration
from diffedit.jobs.redis_queues import RedisQueues
from diffedit.jobs.redis_server import RedisServer, outcome_of, translate_errors
from diffedit.jobs.redis_submissions import RedisSubmissions
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
from diffedit.jobs.workers import WorkerLimits
from diffedit.settings import Settings

_PAGE = 500
RECENT_MINUTES = 10


class RedisJobStore(RedisAdministration, RedisQueues, RedisSubmissions):
    """A `JobStore` in Redis or Valkey."""

    def __init__(self, server: RedisServer, settings: Settings, limits: WorkerLimits) -> None:
        super().__init__(server)
        self._settings = settings
        self._limits = limits

    @translate_errors
    def create_job(
        self,
        job: Job,
        idempotency_key: str | None = None,
        request_digest: str | None = None,
        *,
        pixels: int | None = None,
        send: bool = False,
    ) -> str:
        request, options, settings = job.request, job.options, self._settings
        profile = request.params.profile
        answer = self._server.run(
            "create_job",
            message=queue_message(job) if send else None,
            job_id=job.id,
            stage=job.stages_left[0].value,
            queue=job.queue,
            queues=[queue_name(profile, group, options.lane) for group in ModelGroup],
            max_queued=settings.max_queued,
            fields=new_fields(job, settings.retention),
            profile=profile,
            inputs=[key for key in (request.image, request.mask) if key],
            pixels=pixels,
            steps=request.params.num_inference_steps,
            idempotency_key=idempotency_key,
            request_digest=request_digest,
            start_timeout=options.start_timeout,
            deadline=options.deadline,
        )
        if answer == "full":
            raise QueueFull(options.lane.value, profile, settings.max_queued)
        if isinstance(answer, list):
            kind, *details = answer
            raise OwnerLimit(options.owner or "", *details) if kind == "limit" else IdempotencyConflict(*details)
        return cast(str, answer)

    @translate_errors
    def discard_job(self, job_id: str) -> None:
        self._server.run("discard_job", job_id=job_id)

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
        if answer == "owner_busy":
            raise OwnerBusy(job_id)
        if answer == "paused":
            raise QueuePaused(job_id)
        if isinstance(answer, list):
            return self._status_of(job_id, dict(zip(answer[::2], answer[1::2], strict=True)))
        outcome_of(job_id, answer)
        return self.status(job_id)

    @translate_errors
    def park_job(self, job: Job) -> State | None:
        return outcome_of(job.id, self._server.run("park_job", message=queue_message(job), job_id=job.id))

    @translate_errors
    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> StepReport:
        answer = self._server.run("report_step", job_id=job_id, worker=worker, step=step, steps=steps)
        return StepReport(None, watched=True) if answer == "watched" else StepReport(outcome_of(job_id, answer))

    @translate_errors
    def publish_preview(self, job_id: str, data: bytes) -> None:
        preview = base64.b64encode(data).decode()
        self._server.run("publish_preview", job_id=job_id, preview=preview, seconds=PREVIEW_SECONDS)

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
        answer = self._server.run(
            "complete_stage",
            message=queue_message(job) if send and job.stages_left else None,
            job_id=job.id,
            worker=worker,
            done=stage.value,
            fields=done_fields(job, stage, seconds, created),
            artifacts=[job.artifact_keys[artifact] for artifact in stage.gives],
            contents={each.value: job.contents[each] for each in stage.gives if each in job.contents},
            profile=job.request.params.profile,
            seconds=seconds if created else None,
            device_seconds=device_seconds or None,
            owner=job.options.owner,
            ran_in=job.queue_of(stage),
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
    def record_contents(self, contents: Mapping[str, str]) -> None:
        for key, content in contents.items():
            self._redis.set(keys.CONTENT + key, content, ex=self._settings.retention)

    @translate_errors
    def requeue(
        self,
        job: Job,
        worker: str | None = None,
        *,
        count_attempt: bool = True,
        attempt: int | None = None,
        waited: float | None = None,
    ) -> State | None:
        answer = self._server.run(
            "requeue",
            job_id=job.id,
            worker=worker,
            stage=job.stages_left[0].value,
            queue=job.queue,
            count_attempt=count_attempt,
            attempt=attempt,
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
    def resend_webhook(self, job_id: str) -> bool:
        answer = self._server.run("resend_webhook", job_id=job_id)
        if answer == "missing":
            raise JobNotFound(job_id)
        return answer == ""

    @translate_errors
    def count_retry(self, job_id: str, worker: str) -> State | None:
        return outcome_of(job_id, self._server.run("count_retry", job_id=job_id, worker=worker))

    @translate_errors
    def damaged_keys(self) -> list[str]:
        return self._entries.damaged()

    @translate_errors
    def now(self) -> float:
        return self._server.now()

    @translate_errors
    def ping(self) -> None:
        self._redis.set(keys.PING, "", px=1)  # a server that refuses writes is of no use
