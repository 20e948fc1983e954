"""One Celery task for each stage.

Celery never sends the next task of a chain. `Runner.run` has sent it when it returns (`JobStore.complete_stage`).
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from celery.exceptions import Ignore
from pydantic import ConfigDict, ValidationError

from diffedit.contract import versions
from diffedit.contract.stages import Stage
from diffedit.contract.validation import Frozen, JobId
from diffedit.jobs.messages import message_of, task_name
from diffedit_worker.runtime.running_stage import Ending
from diffedit_worker.runtime.task_endings import StageFailed, end_task

if TYPE_CHECKING:
    from diffedit_worker.runtime.runner import Runner

log = logging.getLogger(__name__)


class Message(Frozen):
    """The argument of a task. Version 0.2.0 sends no contract."""

    model_config = ConfigDict(extra="ignore")

    id: JobId
    contract: int = 1


def add_tasks(app: Celery, get_runner: Callable[[], "Runner"]) -> None:
    """Give the application a task for each stage. `get_runner` returns the runner of the worker."""

    def run(stage: Stage, message: Any, task: Task) -> dict[str, Any]:
        named, ending = _read(message, stage), Ending()
        if named.contract > versions.CONTRACT:
            log.info("job %s: stage %s is left to a worker of a newer version", named.id, stage.value)
            get_runner().hand_back(named.id)
            raise Ignore
        job = get_runner().run(stage, named.id, ending)
        if job is None:
            end_task(task, stage, ending.outcome, ending.code)
        return message_of(job)

    def task_of(stage: Stage) -> Callable[[Task, Any], dict[str, Any]]:
        # A default argument would be one that a message could set.
        def task(self: Task, message: Any) -> dict[str, Any]:
            answer = run(stage, message, self)
            self.request.chain = None
            return answer

        return task

    # What is expected is not logged by Celery; the runner has logged it.
    options = {"throws": (StageFailed,)}
    for stage in Stage:
        # By default Celery adds the task to all applications of this process. Under FORKED_BY_MULTIPROCESSING, which
        # the children of another Celery worker inherit, it does so with each task that it makes later (lazy).
        app.task(task_of(stage), name=task_name(stage), bind=True, shared=False, lazy=False, **options)


def _read(message: Any, stage: Stage) -> Message:
    try:
        return Message.model_validate(message)
    except ValidationError:
        log.error("dropping a message for stage %s that names no job", stage.value)
        raise Ignore from None
