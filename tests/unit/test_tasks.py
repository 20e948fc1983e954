"""What a worker does with a message before a stage runs, and with what the stage returns."""

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.canvas import Signature
from celery.exceptions import Ignore, Retry

from diffedit import Stage
from diffedit.contract.versions import CONTRACT
from diffedit.jobs.messages import message_of, task_name
from diffedit_worker.runtime.running_stage import Ending
from diffedit_worker.runtime.stage_report import Outcome
from diffedit_worker.runtime.task_endings import StageFailed
from diffedit_worker.tasks import add_tasks
from tests.support.factories import a_job


class FakeRunner:
    """Returns `answer` for each stage, says that it ended so, and remembers the calls."""

    def __init__(self, answer, outcome: Outcome | None = None, code: str = "") -> None:
        self.answer = answer
        self.outcome, self.code = outcome, code
        self.calls: list[tuple[Stage, str]] = []
        self.handed_back: list[str] = []

    def hand_back(self, job_id: str) -> None:
        self.handed_back.append(job_id)

    def run(self, stage: Stage, job_id: str, ending: Ending):
        self.calls.append((stage, job_id))
        ending.outcome, ending.code = self.outcome, self.code
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


def traced(runner: FakeRunner, **request: object):
    """Return what Celery makes of a task, as it runs in a worker."""
    app = app_with(lambda: runner)
    task = app.tasks[task_name(Stage.MASK)]
    return build_tracer(task.name, task, app=app)("1", (message_of(a_job()),), {}, {"id": "1", **request})


def test_celery_learns_that_a_stage_failed_and_why() -> None:
    answer = traced(FakeRunner(None, Outcome.FAILED, "empty_mask"))
    assert answer.info.state == "FAILURE"
    assert isinstance(answer.info.retval, StageFailed)
    assert str(answer.info.retval) == "stage mask failed: empty_mask"
    assert answer.info.retval.__context__ is None


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.REQUEUED])
def test_celery_learns_that_a_stage_goes_on_elsewhere(outcome: Outcome) -> None:
    answer = traced(FakeRunner(None, outcome, "store_refused"))
    assert answer.info.state == "RETRY"
    assert isinstance(answer.info.retval, Retry)
    assert str(answer.info.retval.exc) == "stage mask goes on elsewhere or later: store_refused"


def test_celery_learns_nothing_of_a_message_for_which_there_was_nothing_to_do() -> None:
    assert traced(FakeRunner(None)).info.state == "IGNORED"
    assert traced(FakeRunner(None, Outcome.DROPPED)).info.state == "IGNORED"


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REFUSED])
def test_a_message_cannot_ask_for_anything_to_be_done_when_its_stage_fails(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr(Signature, "apply_async", lambda signature, *_, **__: sent.append(signature.task))
    monkeypatch.setattr(Celery, "send_task", lambda app, name, *_, **__: sent.append(name))
    other = {"task": task_name(Stage.EDIT), "args": [], "kwargs": {}, "options": {"chord": {}, "task_id": "2"}}
    answer = traced(FakeRunner(None, outcome, "x"), errbacks=[other], chain=[other], chord=other)
    assert answer.info.state in ("FAILURE", "RETRY")
    assert sent == []


def test_celery_logs_no_traceback_of_a_stage_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    traced(FakeRunner(None, Outcome.FAILED, "empty_mask"))
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []
