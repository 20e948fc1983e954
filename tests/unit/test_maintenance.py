"""What a keeper does at each turn, over the memory board."""

import pytest

from diffedit import Artifact, Settings, Stage, State
from diffedit.contract.job import Job
from diffedit.errors import BrokerUnavailable
from diffedit.jobs.store import MaxAttemptsExceeded, WorkerLimits
from diffedit.testing import memory_backend
from diffedit_worker.runtime.maintenance import Maintenance
from diffedit_worker.runtime.runner import RunningStage
from tests.support.factories import a_job, a_worker, done


class Post:
    """A worker's keeper and what it has sent; `at` is what the worker is at."""

    def __init__(self, **settings) -> None:
        self.settings = Settings(**settings)
        limits = WorkerLimits(max_attempts=self.settings.max_attempts, worker_ttl=self.settings.worker_ttl)
        self.backend = memory_backend(self.settings, limits)
        self.job_store, self.worker_registry = self.backend.job_store, self.backend.worker_registry
        self.sent: list[Job] = []
        self.ended = 0
        self.at: list[RunningStage] = []
        self.maintenance = self.a_keeper("me")

    def a_keeper(self, worker: str) -> Maintenance:
        maintenance = Maintenance(
            self.job_store,
            self.worker_registry,
            self.settings,
            a_worker(id=worker),
            at=lambda: self.at,
            send=self.sent.append,
            end=self.end,
        )
        maintenance.announce()
        return maintenance

    def end(self) -> None:
        self.ended += 1

    def begun(self, worker: str, stage: Stage = Stage.EMBED) -> Job:
        job = a_job()
        self.job_store.create_job(job)
        self.job_store.start_stage(job.id, stage, worker)
        return job


@pytest.fixture
def post() -> Post:
    return Post()


def test_a_worker_says_what_it_is_at(post: Post) -> None:
    post.at = [RunningStage("ab" * 16, Stage.MASK)]
    post.maintenance.announce()
    (worker,) = post.worker_registry.workers()
    assert worker.job == "ab" * 16
    assert worker.memory > 10**6


def test_the_job_of_a_dead_worker_is_sent_from_where_it_was(post: Post) -> None:
    post.a_keeper("other")
    job = post.begun("other")
    job = done(job, Stage.EMBED)
    post.job_store.complete_stage(job, Stage.EMBED, 1.0, [Artifact.EMBEDDINGS], "other")
    post.job_store.start_stage(job.id, Stage.MASK, "other")
    post.maintenance.recover()
    assert post.sent == []
    post.worker_registry.unregister("other")
    post.maintenance.recover()
    assert post.sent == [job]
    post.maintenance.recover()
    assert post.sent == [job]  # it waits now, and a message is on its way


def test_a_waiting_job_without_a_message_is_sent_after_a_while(monkeypatch) -> None:
    post = Post(worker_ttl=1)
    job = a_job()
    post.job_store.create_job(job)
    post.maintenance.recover()
    assert post.sent == []
    post.job_store._state.waiting[job.id] -= 60
    post.maintenance.recover()
    assert post.sent == [job]


def test_one_keeper_at_a_time_looks_after_lost_jobs(post: Post) -> None:
    other = post.a_keeper("other")
    post.maintenance.recover()
    post.begun("third")
    other.recover()
    assert post.sent == []
    post.maintenance.recover()
    assert len(post.sent) == 1


def test_after_an_outage_the_others_are_not_taken_for_dead(monkeypatch) -> None:
    post = Post(worker_ttl=60)
    post.begun("silent since the outage began")
    lead = post.worker_registry.acquire_leadership

    def fails(worker: str, seconds: float) -> bool:
        raise BrokerUnavailable

    monkeypatch.setattr(post.worker_registry, "acquire_leadership", fails)
    post.maintenance.turn()
    monkeypatch.setattr(post.worker_registry, "acquire_leadership", lead)
    post.maintenance.turn()
    assert post.sent == []
    monkeypatch.setattr(post.maintenance, "_outage", post.maintenance._outage - 61)
    post.maintenance.turn()
    assert len(post.sent) == 1


def test_what_a_worker_holds_and_is_not_at_is_let_go(post: Post) -> None:
    job, current = post.begun("me"), post.begun("me")
    post.at = [RunningStage(current.id, Stage.EMBED)]
    post.maintenance.let_go()
    assert post.sent == [job]
    assert post.job_store.jobs_held_by("me") == [current.id]


def test_a_stage_that_takes_too_long_ends_the_worker_and_says_why(post: Post) -> None:
    post = Post(stage_timeouts={Stage.EMBED: 10}, max_attempts=1)
    job = post.begun("me")
    post.at = [RunningStage(job.id, Stage.EMBED)]
    post.maintenance.watch()
    assert post.ended == 0
    post.at = [RunningStage(job.id, Stage.EMBED, since=post.at[0].since - 11)]
    post.maintenance.watch()
    assert post.ended == 1
    post.a_keeper("other").recover()
    assert post.sent == [job]
    with pytest.raises(MaxAttemptsExceeded, match="timeout"):
        post.job_store.start_stage(job.id, Stage.EMBED, "other")


def test_a_hung_worker_ends_even_if_it_cannot_say_why(post: Post, monkeypatch) -> None:
    def fails(*args: object) -> None:
        raise BrokerUnavailable

    monkeypatch.setattr(post.job_store, "record_cause", fails)
    post.at = [RunningStage("ab" * 16, Stage.MASK, since=-(10**6))]
    with pytest.raises(BrokerUnavailable):
        post.maintenance.watch()
    assert post.ended == 1


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), RuntimeError("a bug")])
def test_no_fault_ends_the_keeper(post: Post, monkeypatch, error: Exception) -> None:
    def fails(worker: str) -> None:
        raise error

    monkeypatch.setattr(post.worker_registry, "unregister", fails)
    post.maintenance.stop()


def test_a_lost_job_whose_record_cannot_be_read_fails_and_the_others_go_on(post: Post) -> None:
    unreadable, job = post.begun("dead"), post.begun("dead")
    record = post.job_store._state.records[unreadable.id]
    request, record["request"] = record["request"], record["request"].replace("target_prompt", "new_field")
    post.maintenance.recover()
    assert post.sent == [job]
    record["request"] = request
    status = post.job_store.status(unreadable.id)
    assert (status.state, status.error.code) == (State.FAILED, "bad_record")
    assert "new_field: unknown parameter" in status.error.message
