"""How Celery learns what became of a stage, so that its events tell the truth to Flower and celery-exporter.

| the stage | Celery's event |
|---|---|
| is done | `task-succeeded` |
| failed, and the job with it | `task-failed`, with stage and error code |
| goes to another worker, or returns to its queue | `task-retried` |
| there was nothing to do: the job has ended, or the message was a duplicate | none after `task-started` |

The job's record has said it before, and the message for what comes next is sent. Celery sends no message of its own.
"""

from typing import NoReturn

from celery import Task
from celery.exceptions import Ignore, Retry

from diffedit.contract.stages import Stage
from diffedit_worker.runtime.stage_report import Outcome

PASSED_ON = frozenset({Outcome.REFUSED, Outcome.REQUEUED})


class StageFailed(Exception):
    """The job failed in this stage. The text holds stage and error code, and nothing that came from outside."""

    # Celery copies exceptions by their arguments, so the text is the only one.


class StagePassedOn(Exception):
    """The stage is left to another worker or to a later turn."""


def end_task(task: Task, stage: Stage, outcome: Outcome | None, code: str) -> NoReturn:
    """End a task whose stage is not done, so that Celery sends the event that fits.

    Nothing that its message asks for in this case is done: no other task is called and no chord is counted.
    """
    task.request.update(chain=None, errbacks=None, chord=None)
    if outcome is Outcome.FAILED:
        raise StageFailed(f"stage {stage.value} failed: {code}")
    if outcome in PASSED_ON:
        raise Retry(exc=StagePassedOn(f"stage {stage.value} goes on elsewhere or later{code and f': {code}'}"))
    raise Ignore
