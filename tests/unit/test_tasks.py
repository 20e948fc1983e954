"""What a worker does with a message before a stage runs, and with what the stage returns."""

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.canvas import Signature
from celery.exceptions import Ignore

from diffedit import Stage
from diffedit.contract.versions import CONTRACT
from diffedit.jobs.messages import message_of, task_name
from diffedit_worker.tasks import add_tasks
from tests.support.factories import a_job


class FakeRunner:
    """Returns `answer` for each stage and remembers the calls."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.calls: list[tuple[Stage, str]] = []
        self.handed_back: list[str] = []

    def hand_back(self, job_id: str) -> None:
        self.handed_back.append(job_id)

    def run(self, stage: Stage, job_id: str):
        self.calls.append((stage, job_id))
        return self.answer


def app_with(get_runner) -> Celery:
    app = Celery(set_as_current=False)
    add_tasks(app, get_runner)
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


def test_celery_does_not_send_the_rest_of_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """`complete_stage` has sent it. A client of 0.2.0, and one of ours for workers of 0.2.0, sends a whole chain."""
    sent: list[str] = []
    monkeypatch.setattr(Signature, "apply_async", lambda signature, *_, **__: sent.append(signature.task))
    app, job = app_with(lambda: FakeRunner(a_job())), a_job()
    task = app.tasks[task_name(Stage.EMBED)]
    request = {"chain": [{"task": task_name(Stage.MASK), "args": [], "kwargs": {}, "options": {}}], "id": "1"}
    traced = build_tracer(task.name, task, app=app)("1", (message_of(job),), {}, request)
    assert traced.retval == message_of(job) | {"id": traced.retval["id"]}
    assert sent == []


def test_the_chain_stops_when_there_is_nothing_more_to_do() -> None:
    with pytest.raises(Ignore):
        app_with(lambda: FakeRunner(None)).tasks[task_name(Stage.EMBED)](message_of(a_job()))


@pytest.mark.parametrize(
    "message",
    [None, "text", 3, {}, {"id": None}, {"id": "../x"}, {"id": "AB" * 16}, ["id"], {"id": "ab" * 16, "contract": "x"}],
)
def test_a_message_that_names_no_job_is_dropped(message) -> None:
    runner = FakeRunner(None)
    with pytest.raises(Ignore):
        app_with(lambda: runner).tasks[task_name(Stage.EMBED)](message)
    assert runner.calls == []


def test_a_message_cannot_choose_the_stage() -> None:
    runner, job = FakeRunner(None), a_job()
    with pytest.raises(TypeError):
        app_with(lambda: runner).tasks[task_name(Stage.EMBED)](message_of(job), stage=Stage.EDIT)
    assert runner.calls == []


def test_a_message_of_a_newer_contract_is_left_to_newer_workers() -> None:
    runner, job = FakeRunner(None), a_job()
    with pytest.raises(Ignore):
        app_with(lambda: runner).tasks[task_name(Stage.EMBED)]({**message_of(job), "contract": CONTRACT + 1})
    assert (runner.calls, runner.handed_back) == ([], [job.id])


@pytest.mark.parametrize("more", [{}, {"contract": CONTRACT}, {"contract": 1, "news": [1]}])
def test_a_message_may_have_no_contract_and_unknown_fields(more: dict[str, object]) -> None:
    job = a_job()
    runner = FakeRunner(job)
    app_with(lambda: runner).tasks[task_name(Stage.EMBED)]({"id": job.id, **more})
    assert runner.calls == [(Stage.EMBED, job.id)]
