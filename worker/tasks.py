"""One thin Celery task per stage, made in a loop."""

import functools
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import Ignore
from pydantic import ValidationError

from api_client.board import RedisBoard
from api_client.contract import ErrorInfo, Job, Stage, State, explain
from api_client.dispatch import task_name
from api_client.errors import JobNotFound, ServiceError
from api_client.settings import Settings
from api_client.store import S3Store

if TYPE_CHECKING:
    from worker.runner import Runner

log = logging.getLogger(__name__)

BOARD_RETRIES = 20
"""A good quarter of a minute, in which the server may restart without the loss of what a running stage has done."""


def make_runner(settings: Settings, worker: str, send: Callable[[Job], None], leaving: Callable[[], bool]) -> "Runner":
    """A runner on the real services. Imports torch."""
    from worker.models import Models
    from worker.profiles import load_profiles, profile_named
    from worker.runner import Runner

    profiles = load_profiles(settings.profiles_file)

    @functools.cache
    def models_of(name: str) -> Models:
        return Models(profile_named(profiles, name), device=settings.device, cpu_offload=settings.cpu_offload)

    return Runner(
        RedisBoard(settings, BOARD_RETRIES),
        S3Store(settings),
        models_of,
        worker=worker,
        send=send,
        leaving=leaving,
        store_patience=settings.store_patience,
    )


def add_tasks(app: Celery, settings: Settings, runner: Callable[[], "Runner"]) -> None:
    """Give `app` a task for every stage; `runner` gives what runs them, or raises if this worker cannot."""

    def run(stage: Stage, message: Any) -> dict[str, Any]:
        try:
            job = Job.model_validate(message)
            if stage not in job.request.stages:
                raise ValueError(f"stage {stage.value} is not part of the plan of job {job.id}")
        except ValueError as error:
            reason = explain(error) if isinstance(error, ValidationError) else str(error)
            give_up(settings, stage, message, "bad_message", f"the worker refused the message: {reason}")
            raise Ignore from None
        try:
            ready = runner()
        except Exception as error:
            log.exception("this worker cannot run stages")
            reason = f"the worker is not fit for work ({type(error).__name__}); its log says why"
            give_up(settings, stage, message, "worker_unfit", reason)
            raise Ignore from None
        made = ready.run(stage, job)
        if made is None:
            # Nothing is handed on: the job has ended, or is in other hands.
            raise Ignore
        return made.model_dump(mode="json")

    for stage in Stage:

        def task(message: Any, stage: Stage = stage) -> dict[str, Any]:
            return run(stage, message)

        # Celery would otherwise give the task to every other application of this process, too.
        app.task(task, name=task_name(stage), shared=False)


def give_up(settings: Settings, stage: Stage, message: Any, code: str, reason: str) -> None:
    """Drop a message that cannot be worked on; if it names a job of ours, that job fails rather than hangs."""
    job_id = message.get("id") if isinstance(message, dict) else None
    log.error("a message for stage %s is dropped: %s", stage.value, reason)
    if not isinstance(job_id, str) or not re.fullmatch("[0-9a-f]{32}", job_id):
        return
    try:
        RedisBoard(settings).finish(job_id, State.FAILED, ErrorInfo(stage=stage, code=code, message=reason))
    except (ServiceError, JobNotFound) as unrecorded:
        log.error("job %s: its failure could not be recorded: %s", job_id, unrecorded)
