"""One Celery task for each stage."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import Ignore
from pydantic import TypeAdapter, ValidationError

from diffedit.contract.stages import Stage
from diffedit.contract.validation import JobId
from diffedit.jobs.dispatch import message_of, task_name

if TYPE_CHECKING:
    from diffedit_worker.runtime.runner import Runner

log = logging.getLogger(__name__)

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)


def add_tasks(app: Celery, get_runner: Callable[[], "Runner"]) -> None:
    """Give the application a task for each stage. `get_runner` returns the runner of the worker."""

    def run(stage: Stage, message: Any) -> dict[str, Any]:
        job = get_runner().run(stage, _job_id_of(message, stage))
        if job is None:
            # Celery must not run the next task of the chain.
            raise Ignore
        return message_of(job)

    def task_of(stage: Stage) -> Callable[[Any], dict[str, Any]]:
        # A default argument would be one that a message could set.
        def task(message: Any) -> dict[str, Any]:
            return run(stage, message)

        return task

    for stage in Stage:
        # By default Celery adds the task to all applications of this process. Under FORKED_BY_MULTIPROCESSING, which
        # the children of another Celery worker inherit, it does so with each task that it makes later (lazy).
        app.task(task_of(stage), name=task_name(stage), shared=False, lazy=False)


def _job_id_of(message: Any, stage: Stage) -> str:
    try:
        return _JOB_ID.validate_python(message["id"])
    except (LookupError, TypeError, ValidationError):
        log.error("dropping a message for stage %s that names no job", stage.value)
        raise Ignore from None
