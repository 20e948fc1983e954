"""One thin Celery task per stage, made in a loop."""

import functools
import logging
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import Ignore
from pydantic import ValidationError

from api_client.board import RedisBoard
from api_client.contract import ErrorInfo, Job, Stage, explain
from api_client.dispatch import task_name
from api_client.settings import Settings
from api_client.store import S3Store

if TYPE_CHECKING:
    from worker.runner import Runner

log = logging.getLogger(__name__)


def make_runner(settings: Settings) -> "Runner":
    """A runner on the real services; imports torch, so it happens at the first task and not at start."""
    from worker.models import Models
    from worker.profiles import load_profiles, profile_named
    from worker.runner import Runner

    profiles = load_profiles(settings.profiles_file)

    @functools.cache
    def models_of(name: str) -> Models:
        return Models(profile_named(profiles, name), device=settings.device, cpu_offload=settings.cpu_offload)

    return Runner(RedisBoard(settings), S3Store(settings), models_of)


def add_tasks(app: Celery, settings: Settings) -> None:
    """Give `app` a task for every stage."""
    runner = functools.cache(lambda: make_runner(settings))

    def run(stage: Stage, message: Any) -> dict[str, Any]:
        try:
            job = Job.model_validate(message)
            if stage not in job.request.stages:
                raise ValueError(f"stage {stage.value} is not part of the plan of job {job.id}")
        except ValueError as error:
            _refuse(runner(), stage, message, error)
            raise Ignore from None
        made = runner().run(stage, job)
        if made is None:
            # Nothing is handed on: the job has ended.
            raise Ignore
        return made.model_dump(mode="json")

    for stage in Stage:

        def task(message: Any, stage: Stage = stage) -> dict[str, Any]:
            return run(stage, message)

        app.task(task, name=task_name(stage))


def _refuse(runner: "Runner", stage: Stage, message: Any, error: ValueError) -> None:
    """Drop a message that is not a job of ours; if it names one, that job fails rather than hangs."""
    reason = explain(error) if isinstance(error, ValidationError) else str(error)
    job_id = message.get("id") if isinstance(message, dict) else None
    log.error("a message for stage %s is not a job: %s", stage.value, reason)
    if isinstance(job_id, str) and len(job_id) == 32 and job_id.isalnum():
        runner.fail(job_id, ErrorInfo(stage=stage, code="bad_message", message=f"the worker refused it: {reason}"))
