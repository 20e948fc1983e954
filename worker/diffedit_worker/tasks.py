"""One thin Celery task per stage, made in a loop."""

import logging
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import Ignore
from pydantic import TypeAdapter, ValidationError

from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.stages import Lane, ModelGroup, Stage, queue_name
from diffedit.contract.validation import JobId
from diffedit.errors import JobNotFound, ServiceError
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import message_of, task_name
from diffedit.jobs.store import WorkerLimits
from diffedit.objects.s3 import S3ObjectStore
from diffedit.retries import WORKER_REDIS_RETRIES
from diffedit.settings import Settings
from diffedit_worker.models.profiles import load_profiles, profile_named

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models
    from diffedit_worker.runtime.runner import Runner

log = logging.getLogger(__name__)

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)


def worker_limits(settings: Settings) -> WorkerLimits:
    """Return what the job backend of a worker must know."""
    longest = max(map(settings.timeout_of, Stage))
    return WorkerLimits(settings.max_attempts, settings.worker_ttl, lock_timeout=longest)


def make_models(settings: Settings, profile: str) -> "Models":
    """The models of a profile, none of them loaded. Imports torch."""
    from diffedit_worker.models.devices import limit_cpu_threads
    from diffedit_worker.models.loading import Models, disable_progress_bars

    named = profile_named(load_profiles(settings.profiles_file), profile)
    models = Models(named, device=settings.device)
    limit_cpu_threads(named, models.device)
    disable_progress_bars()
    return models


def groups_of(queues: Container[str], profile: str) -> list[ModelGroup]:
    """The model families of this profile whose stages come through these queues."""
    return [group for group in ModelGroup if any(queue_name(profile, group, lane) in queues for lane in Lane)]


def make_runner(
    settings: Settings,
    models_of: Callable[[str], "Models"],
    worker: str,
    send: Callable[[Job], None],
    leaving: Callable[[], bool],
    on_last_computed: Callable[[], None],
) -> "Runner":
    """A runner on the real services. Imports torch."""
    from diffedit_worker.runtime.runner import Runner

    backend = redis_backend(settings, worker_limits(settings), WORKER_REDIS_RETRIES)
    return Runner(
        backend.job_store,
        backend.artifact_locks,
        S3ObjectStore(settings),
        models_of,
        worker=worker,
        send=send,
        leaving=leaving,
        on_last_computed=on_last_computed,
        s3_retry_timeout=settings.s3_retry_timeout,
        cache_bytes=settings.cache_bytes,
    )


def add_tasks(app: Celery, settings: Settings, runner: Callable[[], "Runner"]) -> None:
    """Give `app` a task for every stage; `runner` gives what runs them, or raises if this worker cannot."""

    def run(stage: Stage, message: Any) -> dict[str, Any]:
        try:
            job_id = _JOB_ID.validate_python(message["id"])
        except (LookupError, TypeError, ValidationError):
            log.error("a message for stage %s is dropped: it names no job", stage.value)
            raise Ignore from None
        try:
            ready = runner()
        except Exception as error:
            log.exception("this worker cannot run stages")
            reason = f"the worker is not fit for work ({type(error).__name__}); its log says why"
            give_up(settings, stage, job_id, "worker_unfit", reason)
            raise Ignore from None
        made = ready.run(stage, job_id)
        if made is None:
            # Nothing is handed on: the job has ended, or is in other hands.
            raise Ignore
        return message_of(made)

    for stage in Stage:

        def task(message: Any, stage: Stage = stage) -> dict[str, Any]:
            return run(stage, message)

        # Celery would otherwise give the task to every other application of this process, too.
        app.task(task, name=task_name(stage), shared=False)


def give_up(settings: Settings, stage: Stage, job_id: str, code: str, reason: str) -> None:
    """Let a job that cannot be worked on fail rather than hang."""
    log.error("job %s: %s", job_id, reason)
    try:
        redis_backend(settings).job_store.end_job(
            job_id, State.FAILED, ErrorInfo(stage=stage, code=code, message=reason)
        )
    except (ServiceError, JobNotFound) as unrecorded:
        log.error("job %s: its failure could not be recorded: %s", job_id, unrecorded)
