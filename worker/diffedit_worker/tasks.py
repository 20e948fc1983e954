"""One Celery task for each stage."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.exceptions import Ignore
from pydantic import TypeAdapter, ValidationError

from diffedit.contract.job import ErrorInfo
from diffedit.contract.stages import Stage
from diffedit.contract.validation import JobId
from diffedit.jobs.dispatch import message_of, task_name
from diffedit.jobs.store import JobStore
from diffedit_worker.runtime.failures import record_failure

if TYPE_CHECKING:
    from diffedit_worker.runtime.runner import Runner

log = logging.getLogger(__name__)

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)


def add_tasks(app: Celery, job_store: JobStore, get_runner: Callable[[], "Runner"]) -> None:
    """Give the application a task for each stage.

    `get_runner` returns the runner of the worker. If it raises, the worker cannot run stages, and each job that it
    receives fails in `job_store` with code "worker_unfit".
    """

    def run(stage: Stage, message: Any) -> dict[str, Any]:
        job_id = _job_id_of(message, stage)
        try:
            runner = get_runner()
        except Exception as error:
            log.exception("this worker cannot run stages")
            reason = f"the worker cannot run stages ({type(error).__name__}); see its log"
            record_failure(job_store, job_id, ErrorInfo(stage=stage, code="worker_unfit", message=reason))
            raise Ignore from None
        job = runner.run(stage, job_id)
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
