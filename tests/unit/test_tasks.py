"""What a worker does with a message before a stage runs, and with what the stage returns."""

import pytest
from celery import Celery
from celery.exceptions import Ignore

from diffedit import Stage, State
from diffedit.jobs.dispatch import message_of, task_name
from diffedit.testing import memory_backend
from diffedit_worker.tasks import add_tasks
from tests.support.factories import a_job


class FakeRunner:
    """Returns `answer` for each stage and remembers the calls."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.calls: list[tuple[Stage, str]] = []

    def run(self, stage: Stage, job_id: str):
        self.calls.append((stage, job_id))
        return self.answer


def app_with(get_runner, job_store=None) -> Celery:
    app = Celery(set_as_current=False)
    add_tasks(app, job_store or memory_backend().job_store, get_runner)
    return app


def test_there_is_a_task_for_each_stage_and_only_in_this_application() -> None:
    app, other = app_with(lambda: FakeRunner(None)), Celery(set_as_current=False)
    names = {task_name(stage) for stage in Stage}
    assert names <= app.tasks.keys()
    assert not names & other.tasks.keys()


@pytest.mark.parametrize("stage", Stage)
def test_a_task_runs_its_stage_and_passes_the_job_on(stage: Stage) -> None:
    job = a_job()
    runner = FakeRunner(job)
    assert app_with(lambda: runner).tasks[task_name(stage)](message_of(job)) == message_of(job)
    assert runner.calls == [(stage, job.id)]


def test_the_chain_stops_when_there_is_nothing_more_to_do() -> None:
    with pytest.raises(Ignore):
        app_with(lambda: FakeRunner(None)).tasks[task_name(Stage.EMBED)](message_of(a_job()))


@pytest.mark.parametrize("message", [None, "text", 3, {}, {"id": None}, {"id": "../x"}, {"id": "AB" * 16}, ["id"]])
def test_a_message_that_names_no_job_is_dropped(message) -> None:
    runner = FakeRunner(None)
    with pytest.raises(Ignore):
        app_with(lambda: runner).tasks[task_name(Stage.EMBED)](message)
    assert runner.calls == []


@pytest.mark.parametrize("error", [ImportError("No module named 's3cret'"), ValueError("s3cret")])
def test_a_worker_that_cannot_run_stages_fails_its_jobs(error: Exception) -> None:
    def get_runner() -> None:
        raise error

    job_store, job = memory_backend().job_store, a_job()
    job_store.create_job(job)
    with pytest.raises(Ignore):
        app_with(get_runner, job_store).tasks[task_name(Stage.EMBED)](job.model_dump(mode="json"))
    status = job_store.status(job.id)
    assert (status.state, status.error.code, status.error.stage) == (State.FAILED, "worker_unfit", Stage.EMBED)
    assert "s3cret" not in status.error.message


def test_a_message_cannot_choose_the_stage() -> None:
    runner, job = FakeRunner(None), a_job()
    with pytest.raises(TypeError):
        app_with(lambda: runner).tasks[task_name(Stage.EMBED)](message_of(job), stage=Stage.EDIT)
    assert runner.calls == []
