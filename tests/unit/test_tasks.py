"""What a worker does with messages before any stage runs."""

import pytest
from celery import Celery
from celery.exceptions import Ignore

from diffedit import Settings, Stage, State
from diffedit.contract.stages import ModelGroup, queue_names
from diffedit.jobs.dispatch import task_name
from diffedit.testing import memory_backend
from diffedit_worker import tasks
from tests.support.factories import a_job


@pytest.mark.parametrize("error", [ImportError("No module named 's3cret'"), ValueError("s3cret")])
def test_a_worker_that_cannot_run_stages_fails_the_job_rather_than_eating_it(monkeypatch, error: Exception) -> None:
    def unfit() -> None:
        raise error

    backend, app = memory_backend(), Celery()
    job_store = backend.job_store
    monkeypatch.setattr(tasks, "redis_backend", lambda settings: backend)
    tasks.add_tasks(app, Settings(), unfit)
    job = a_job()
    job_store.create_job(job)
    with pytest.raises(Ignore):
        app.tasks[task_name(Stage.EMBED)](job.model_dump(mode="json"))
    status = job_store.status(job.id)
    assert (status.state, status.error.code, status.error.stage) == (State.FAILED, "worker_unfit", Stage.EMBED)
    assert "s3cret" not in status.error.message


LANGUAGE, DIFFUSION = ModelGroup.LANGUAGE, ModelGroup.DIFFUSION


@pytest.mark.parametrize(
    ("queues", "groups"),
    [
        (queue_names("tiny"), [LANGUAGE, DIFFUSION]),
        (["diffedit.tiny.language", "diffedit.tiny.language.batch"], [LANGUAGE]),
        (["diffedit.tiny.diffusion.batch"], [DIFFUSION]),
        (queue_names("sd21"), []),
    ],
)
def test_a_worker_serves_the_families_of_its_queues(queues: list[str], groups: list[ModelGroup]) -> None:
    assert tasks.groups_of(queues, "tiny") == groups
