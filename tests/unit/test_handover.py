"""From one stage of a job to the next, when the message for the next one comes while the first is being recorded."""

import threading
from collections.abc import Callable

import pytest

from diffedit.contract.job import Job, State
from diffedit.contract.stages import Stage
from diffedit_worker.runtime import running_stage
from tests.support.factories import a_job
from tests.support.inline_worker import InlineWorker


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


@pytest.fixture
def job(worker: InlineWorker) -> Job:
    """A job that waits for its first stage; nothing has run."""
    request = worker.edit().status().request  # its picture is in the bucket
    job = a_job(request.model_copy(update={"params": request.params.model_copy(update={"seed": 8})}))
    worker.job_store.create_job(job)
    return job


def in_thread(run: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_the_next_stage_waits_until_the_one_before_is_out_of_the_way(
    worker: InlineWorker, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, threads = worker.job_store.complete_stage, []

    def complete_and_deliver(*args, **options):
        completion = complete(*args, **options)
        if not threads:
            for stage in (Stage.MASK, Stage.MASK):  # the message comes twice
                threads.append(in_thread(lambda stage=stage: worker.runner.run(stage, job.id)))
            threads[0].join(0.2)
            assert worker.stage_of(job.id) is Stage.EMBED, "the next stage has not begun"
        return completion

    monkeypatch.setattr(worker.job_store, "complete_stage", complete_and_deliver)
    worker.runner.run(Stage.EMBED, job.id)
    for thread in threads:
        thread.join()
    status = worker.job_store.status(job.id)
    assert set(status.timings) == {Stage.EMBED, Stage.MASK}
    assert status.attempts[Stage.MASK] == 1
    assert worker.runner.running_stages == []


def test_a_duplicate_of_a_stage_that_runs_is_dropped_at_once(
    worker: InlineWorker, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, duplicates = worker.job_store.start_stage, []

    def start_with_a_duplicate(*args, **options):
        duplicates.append(worker.runner.run(Stage.EMBED, job.id))
        return start(*args, **options)

    monkeypatch.setattr(worker.job_store, "start_stage", start_with_a_duplicate)
    assert worker.runner.run(Stage.EMBED, job.id)
    assert duplicates == [None]
    assert worker.job_store.status(job.id).attempts == {Stage.EMBED: 1}


def test_a_stage_that_is_not_recorded_in_time_is_not_waited_for_for_ever(
    worker: InlineWorker, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete, answers = worker.job_store.complete_stage, []
    monkeypatch.setattr(running_stage, "COMPLETION_TIMEOUT", 0.01)

    def complete_late(*args, **options):
        answers.append(worker.runner.run(Stage.MASK, job.id))
        return complete(*args, **options)

    monkeypatch.setattr(worker.job_store, "complete_stage", complete_late)
    assert worker.runner.run(Stage.EMBED, job.id)
    assert answers == [None]
    assert worker.job_store.status(job.id).state is State.RUNNING
