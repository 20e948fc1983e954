"""What a worker does with messages before any stage runs."""

import pytest
from celery import Celery
from celery.exceptions import Ignore

from api_client import Settings, Stage, State
from api_client.contract import Family, queue_names
from api_client.dispatch import task_name
from api_client.testing import MemoryBoard
from tests.requests import a_job
from worker import tasks


@pytest.mark.parametrize("error", [ImportError("No module named 's3cret'"), ValueError("s3cret")])
def test_a_worker_that_cannot_run_stages_fails_the_job_rather_than_eating_it(monkeypatch, error: Exception) -> None:
    def unfit() -> None:
        raise error

    board, app = MemoryBoard(), Celery()
    monkeypatch.setattr(tasks, "RedisBoard", lambda settings: board)
    tasks.add_tasks(app, Settings(), unfit)
    job = a_job()
    board.open(job)
    with pytest.raises(Ignore):
        app.tasks[task_name(Stage.EMBED)](job.model_dump(mode="json"))
    status = board.status(job.id)
    assert (status.state, status.error.code, status.error.stage) == (State.FAILED, "worker_unfit", Stage.EMBED)
    assert "s3cret" not in status.error.message


LANGUAGE, DIFFUSION = Family.LANGUAGE, Family.DIFFUSION


@pytest.mark.parametrize(
    ("queues", "families"),
    [
        (queue_names("tiny"), [LANGUAGE, DIFFUSION]),
        (["diffedit.tiny.language", "diffedit.tiny.language.batch"], [LANGUAGE]),
        (["diffedit.tiny.diffusion.batch"], [DIFFUSION]),
        (queue_names("sd21"), []),
    ],
)
def test_a_worker_serves_the_families_of_its_queues(queues: list[str], families: list[Family]) -> None:
    assert tasks.families_of(queues, "tiny") == families
