"""Waiting for jobs: how they end, how often they are asked, and what happens while the server does not answer."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from diffedit import (
    BrokerUnavailable,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobHandle,
    JobStatus,
    JobTimeout,
    Stage,
    State,
    testing,
    waiting,
)
from diffedit.contract.job import ErrorInfo
from diffedit.progress import follow
from tests.support.fake_service import TEXTS, FakeService, png


@pytest.fixture
def service() -> FakeService:
    return FakeService()


class Clock:
    """A clock that only moves when somebody sleeps. It replaces the module `time` in `waiting`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.after_pause: dict[int, Callable[[], object]] = {}
        """What happens after the first, second, ... pause."""

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        self.after_pause.get(len(self.pauses), lambda: None)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    return clock


def test_a_wait_raises_the_error_that_says_how_the_job_ended(service: FakeService) -> None:
    failed, cancelled, expired, running = (service.client.edit(png(), **TEXTS) for _ in range(4))
    error = ErrorInfo(stage=Stage.MASK, code="empty_mask", message="no difference")
    service.job_store.end_job(failed.id, State.FAILED, error)
    cancelled.cancel()
    service.job_store.end_job(expired.id, State.EXPIRED)

    with pytest.raises(JobFailed, match="no difference") as caught:
        failed.result(timeout=1)
    raised = caught.value
    assert (raised.job_id, raised.stage, raised.error_code) == (failed.id, "mask", "empty_mask")
    with pytest.raises(JobCancelled, match=cancelled.id):
        cancelled.wait(timeout=1)
    with pytest.raises(JobExpired, match=expired.id):
        expired.wait(timeout=1)
    with pytest.raises(JobTimeout, match=running.id):
        running.wait(timeout=0.05)


def test_the_error_of_an_expired_job_names_the_limit(service: FakeService) -> None:
    for options, limit in (
        ({"start_timeout": 1, "deadline": 9}, "start_timeout of 1 s"),
        ({"deadline": 9}, "deadline of 9 s"),
    ):
        job = service.client.edit(png(), **TEXTS, **options)
        service.job_store.end_job(job.id, State.EXPIRED)
        with pytest.raises(JobExpired, match=limit):
            job.wait(timeout=1)


@pytest.mark.parametrize("progress", [False, True])
def test_pauses_grow_while_nothing_changes(service: FakeService, clock: Clock, progress: bool) -> None:
    job = service.client.edit(png(), **TEXTS)
    with pytest.raises(JobTimeout, match="still queued after 20 s"):
        job.wait(timeout=20, progress=progress)
    assert clock.pauses[0] == waiting.FIRST_PAUSE
    assert all(later >= earlier for earlier, later in zip(clock.pauses, clock.pauses[1:-1], strict=False))
    assert clock.pauses[-2] == waiting.LONGEST_PAUSE
    assert clock.now == pytest.approx(20)


def test_pauses_are_short_again_after_a_change(service: FakeService, clock: Clock) -> None:
    job = service.client.edit(png(), **TEXTS)
    clock.after_pause = {
        5: lambda: service.job_store.start_stage(job.id, Stage.EMBED, "worker"),
        7: job.cancel,
    }
    states = [status.state for status in job.watch(timeout=60)]
    assert states == [State.QUEUED, State.RUNNING, State.CANCELLED]
    assert clock.pauses[4] > waiting.FIRST_PAUSE
    assert clock.pauses[5] == waiting.FIRST_PAUSE


def test_several_jobs_are_drawn_until_all_have_ended() -> None:
    client = testing.memory_client()
    jobs = client.edit_many(png(), ["a bowl of pears", "a bowl of lemons"], source_prompt="a bowl of fruits")
    testing.succeed(jobs[1])
    jobs[0].cancel()
    drawn = io.StringIO()
    last = follow(jobs, timeout=1, console=Console(file=drawn, force_terminal=True, width=120))
    assert [status.id for status in last] == [job.id for job in jobs]
    assert [status.state for status in last] == [State.CANCELLED, State.SUCCEEDED]
    for job, state in zip(jobs, ("cancelled", "succeeded"), strict=True):
        assert job.id[:8] in drawn.getvalue()
        assert state in drawn.getvalue()


def test_the_timeout_for_several_jobs_names_the_one_that_has_not_ended(service: FakeService, clock: Clock) -> None:
    ended, late = (service.client.edit(png(), **TEXTS) for _ in range(2))
    ended.cancel()
    with pytest.raises(JobTimeout, match=late.id):
        follow([ended, late], timeout=2, console=Console(file=io.StringIO()))


def stop_answering(service: FakeService, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the job store not answer the next `times` requests for a status."""
    answer, left = service.job_store.status, iter(range(times))

    def status(job_id: str) -> JobStatus:
        if next(left, None) is not None:
            raise BrokerUnavailable("away")
        return answer(job_id)

    monkeypatch.setattr(service.job_store, "status", status)


@pytest.mark.parametrize("progress", [False, True])
def test_a_wait_survives_a_restart_of_the_server(service: FakeService, monkeypatch, progress: bool) -> None:
    job = service.client.edit(png(), **TEXTS)
    service.job_store.end_job(job.id, State.SUCCEEDED)
    stop_answering(service, monkeypatch, 3)
    assert job.wait(timeout=60, progress=progress).state is State.SUCCEEDED


def test_a_wait_ends_when_the_server_does_not_come_back(service: FakeService, monkeypatch) -> None:
    job: JobHandle = service.client.edit(png(), **TEXTS)
    stop_answering(service, monkeypatch, 10**6)
    with pytest.raises(BrokerUnavailable):
        job.status()
    with pytest.raises(BrokerUnavailable):
        job.wait(timeout=0.1)
    monkeypatch.setattr("diffedit.retries.CLIENT_OUTAGE", 0.1)
    with pytest.raises(BrokerUnavailable):
        job.wait(timeout=10**6)
