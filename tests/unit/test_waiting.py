"""Waiting for jobs: how they end, how often they are asked, and what happens while the server does not answer."""

import io
from collections.abc import Callable
from itertools import pairwise

import pytest
from rich.console import Console

from diffedit import (
    BrokerUnavailable,
    InvalidRequest,
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


def test_the_last_status_is_yielded_again_when_nothing_changes(service: FakeService, clock: Clock) -> None:
    job, told = service.client.edit(png(), **TEXTS), []
    for status in job.watch(timeout=600, heartbeat=15):
        told.append((clock.now, status))
        if len(told) == 3:
            service.job_store.start_stage(job.id, Stage.EMBED, "worker")
        elif len(told) == 6:
            job.cancel()
    times, statuses = zip(*told, strict=True)
    queued, running, cancelled = [State.QUEUED] * 3, [State.RUNNING] * 3, [State.CANCELLED]
    assert [status.state for status in statuses] == queued + running + cancelled
    assert statuses[0] is statuses[1] is statuses[2]
    assert [times[number + 1] - times[number] for number in (0, 1, 3, 4)] == pytest.approx([15] * 4)


def test_a_caller_who_takes_long_is_told_again_only_after_a_pause(service: FakeService, clock: Clock) -> None:
    job, told = service.client.edit(png(), **TEXTS), []
    for _ in job.watch(timeout=600, heartbeat=15):
        told.append(clock.now)
        if len(told) == 3:
            break
        clock.now += 100  # what the caller does
    assert told == pytest.approx([0, 115, 230])


def test_without_a_heartbeat_nothing_is_yielded_twice(service: FakeService, clock: Clock) -> None:
    job, told = service.client.edit(png(), **TEXTS), []
    with pytest.raises(JobTimeout):
        told.extend(status.state for status in job.watch(timeout=100))
    assert told == [State.QUEUED]


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan")])
def test_a_heartbeat_is_a_positive_number(service: FakeService, heartbeat: float) -> None:
    job = service.client.edit(png(), **TEXTS)
    with pytest.raises(InvalidRequest, match="heartbeat must be a positive number"):
        next(job.watch(heartbeat=heartbeat))


class Away:
    """A job whose server is away between two times of the clock. It is asked as `JobHandle.status` asks."""

    id = "a" * 32

    def __init__(self, clock: Clock, since: float, until: float) -> None:
        self._clock, self._since, self._until = clock, since, until

    def status(self, timeout: float = 0) -> JobStatus:
        end = self._clock.now + min(max(timeout, 0), 30)
        while self._since <= self._clock.now < self._until:
            if self._clock.now >= end:
                raise BrokerUnavailable("away")
            self._clock.now += 0.05
        return JobStatus.model_construct(id=self.id, state=State.QUEUED)


def test_heartbeats_go_on_while_the_server_is_away(clock: Clock) -> None:
    told, statuses = [], waiting.changes([Away(clock, since=3, until=28)], timeout=60, heartbeat=5)
    with pytest.raises(JobTimeout):
        told.extend(clock.now for _ in statuses)
    pauses = [after - before for before, after in pairwise(told)]
    assert len(told) == 12 and all(5 <= pause <= 5.2 for pause in pauses)


@pytest.mark.parametrize("heartbeat", [None, 5, 20, 45])
def test_a_server_that_stays_away_ends_the_wait_after_thirty_seconds(clock: Clock, heartbeat: float | None) -> None:
    with pytest.raises(BrokerUnavailable):
        list(waiting.changes([Away(clock, since=3, until=10**6)], timeout=600, heartbeat=heartbeat))
    assert 33 <= clock.now <= 35


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
