"""The loop that asks for all watched jobs: when, for how many at once, and who hears what. No threads, no real time."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from itertools import pairwise

import pytest

from diffedit import (
    BadRecord,
    BrokerUnavailable,
    InvalidRequest,
    JobNotFound,
    JobStatus,
    JobTimeout,
    Stage,
    State,
)
from diffedit.jobs.backend import memory_backend
from diffedit.jobs.store import StatusReading
from diffedit.waiting import FIRST_PAUSE, LONGEST_PAUSE
from diffedit.watcher import EARLY, SHORTEST_GAP, Watchers
from tests.support.factories import a_job
from tests.support.virtual_time import run


class Service:
    """A job store in memory, the watchers that ask it, and a record of what they asked.

    Attributes:
        asked: when the watchers asked, and for which jobs.
        takes: seconds until an answer comes.
        away: what is raised instead of an answer.
    """

    def __init__(self) -> None:
        self.store = memory_backend().job_store
        self.watchers = Watchers(self.ask)
        self.asked: list[tuple[float, list[str]]] = []
        self.takes = 0.0
        self.away: Exception | None = None

    async def ask(self, jobs: Mapping[str, StatusReading | None]) -> Mapping[str, StatusReading]:
        self.asked.append((asyncio.get_running_loop().time(), list(jobs)))
        answer, away = self.store.statuses(jobs), self.away
        await asyncio.sleep(self.takes)
        if away:
            raise away
        return answer

    def job(self) -> str:
        return self.store.create_job(a_job())

    async def watched(self, job: str, timeout: float = 600, heartbeat: float | None = None) -> list[JobStatus]:
        """Watch to the end, and return what was yielded."""
        return [status async for status in self.watchers.changes(job, timeout, heartbeat)]

    async def ended(self, job: str, after: float) -> None:
        await asyncio.sleep(after)
        self.store.end_job(job, State.SUCCEEDED)

    async def error_of(self, job: str, timeout: float = 600) -> Exception:
        with pytest.raises(Exception) as caught:
            await self.watched(job, timeout)
        return caught.value


@pytest.fixture
def service() -> Service:
    return Service()


def states(statuses: list[JobStatus]) -> list[State]:
    return [status.state for status in statuses]


def test_every_change_is_yielded_once_and_the_end_is_the_last(service: Service) -> None:
    async def main() -> list[JobStatus]:
        job = service.job()
        watch = asyncio.create_task(service.watched(job))
        await asyncio.sleep(3)
        service.store.start_stage(job, Stage.EMBED, "worker")
        await asyncio.sleep(3)
        service.store.end_job(job, State.CANCELLED)
        return await watch

    assert states(run(main())) == [State.QUEUED, State.RUNNING, State.CANCELLED]


def test_pauses_grow_while_nothing_changes_and_are_short_again_after_a_change(service: Service) -> None:
    async def main() -> None:
        job = service.job()
        watch = asyncio.create_task(service.watched(job))
        await asyncio.sleep(20)
        service.store.start_stage(job, Stage.EMBED, "worker")
        await asyncio.sleep(20)
        service.store.end_job(job, State.CANCELLED)
        await watch

    run(main())
    pauses = [after - before for (before, _), (after, _) in pairwise(service.asked)]
    change = next(number for number, (earlier, later) in enumerate(pairwise(pauses)) if later < earlier)
    for part in (pauses[: change + 1], pauses[change + 1 : -1]):
        assert part[0] == pytest.approx(FIRST_PAUSE)
        assert part == sorted(part)
        assert part[-1] == pytest.approx(LONGEST_PAUSE)


def test_a_thousand_jobs_share_requests_and_one_task() -> None:
    seconds, asked = 60, []

    async def main() -> int:
        status = JobStatus.model_construct(state=State.QUEUED)

        async def ask(jobs: Mapping[str, StatusReading | None]) -> Mapping[str, StatusReading]:
            asked.append((asyncio.get_running_loop().time(), len(jobs)))
            return dict.fromkeys(jobs, StatusReading(status, None))

        async def watch(number: int) -> None:
            async for _ in watchers.changes(f"{number}", 600, None):
                pass

        watchers, pages = Watchers(ask), []
        for number in range(1000):
            pages.append(asyncio.create_task(watch(number)))
            await asyncio.sleep(0.003)
        asked.clear()
        await asyncio.sleep(seconds)
        return len(asyncio.all_tasks())

    assert run(main()) == 1000 + 2
    # Each job about once a second, and as few requests as that takes.
    assert 1000 * seconds * 0.9 <= sum(jobs for _, jobs in asked) <= 1000 * seconds * 1.3
    assert len(asked) <= seconds / EARLY


def test_requests_keep_a_distance_however_many_begin_to_watch(service: Service) -> None:
    async def main() -> None:
        jobs = [service.job() for _ in range(100)]
        watches = []
        for job in jobs:
            watches.append(asyncio.create_task(service.watched(job)))
            await asyncio.sleep(0.001)
        for job in jobs:
            service.store.end_job(job, State.SUCCEEDED)
        await asyncio.gather(*watches)

    run(main())
    assert min(after - before for (before, _), (after, _) in pairwise(service.asked)) >= SHORTEST_GAP - 1e-9


def test_requests_that_take_long_leave_the_loop_half_of_the_time(service: Service) -> None:
    service.takes = 0.3

    async def main() -> None:
        job = service.job()
        await asyncio.gather(service.watched(job), service.ended(job, after=5))

    run(main())
    assert min(after - before for (before, _), (after, _) in pairwise(service.asked)) >= 0.6 - 1e-9


def test_several_pages_of_one_job_cost_one_answer(service: Service) -> None:
    async def main() -> list[list[JobStatus]]:
        job = service.job()
        pages = [service.watched(job) for _ in range(5)]
        *seen, _ = await asyncio.gather(*pages, service.ended(job, after=1))
        return seen

    seen = run(main())
    assert [states(each) for each in seen] == [[State.QUEUED, State.SUCCEEDED]] * 5
    assert all(len(jobs) == 1 for _, jobs in service.asked)


def test_who_begins_to_watch_gets_no_answer_to_an_earlier_request(service: Service) -> None:
    service.takes = 0.2

    async def main() -> list[JobStatus]:
        job = service.job()
        early = asyncio.create_task(service.watched(job))
        await asyncio.sleep(0.1)  # while the first request is on its way
        service.store.start_stage(job, Stage.EMBED, "worker")
        late = asyncio.create_task(service.watched(job))
        await asyncio.sleep(5)
        service.store.end_job(job, State.CANCELLED)
        assert states(await early) == [State.QUEUED, State.RUNNING, State.CANCELLED]
        return await late

    assert states(run(main())) == [State.RUNNING, State.CANCELLED]


def test_a_slow_caller_gets_the_newest_status_and_the_last_one(service: Service) -> None:
    async def main() -> list[JobStatus]:
        job, seen = service.job(), []
        service.store.start_stage(job, Stage.EMBED, "worker")

        async def advance() -> None:
            for step in range(1, 101):
                service.store.report_step(job, step, 100, "worker")
                await asyncio.sleep(0.1)
            service.store.end_job(job, State.CANCELLED)

        steps = asyncio.create_task(advance())
        async for status in service.watchers.changes(job, 600, None):
            seen.append(status)
            await asyncio.sleep(4)
        await steps
        return seen

    seen = run(main())
    assert [status.step for status in seen] == [1, pytest.approx(40, abs=2), pytest.approx(80, abs=2), 100]
    assert seen[-1].is_terminal


def test_the_last_status_is_yielded_again_when_nothing_changes(service: Service) -> None:
    async def main() -> tuple[list[JobStatus], float]:
        job, begun = service.job(), asyncio.get_running_loop().time()
        seen, _ = await asyncio.gather(service.watched(job, heartbeat=15), service.ended(job, after=40))
        return seen, asyncio.get_running_loop().time() - begun

    seen, took = run(main())
    assert states(seen) == [State.QUEUED] * 3 + [State.SUCCEEDED]
    assert seen[0] is seen[1] is seen[2]
    assert 40 <= took <= 41


def test_heartbeats_go_on_while_the_server_is_away(service: Service) -> None:
    async def main() -> list[JobStatus]:
        job = service.job()
        watch = asyncio.create_task(service.watched(job, heartbeat=5))
        await asyncio.sleep(1)
        service.away = BrokerUnavailable("away")
        await asyncio.sleep(22)
        service.away = None
        service.store.end_job(job, State.SUCCEEDED)
        return await watch

    assert states(run(main())) == [State.QUEUED] * 5 + [State.SUCCEEDED]


def test_the_server_may_be_away_for_less_than_thirty_seconds_again_and_again(service: Service) -> None:
    async def main() -> list[JobStatus]:
        job = service.job()
        watch = asyncio.create_task(service.watched(job))
        for _ in range(3):
            await asyncio.sleep(5)
            service.away = BrokerUnavailable("away")
            await asyncio.sleep(25)
            service.away = None
        service.store.end_job(job, State.SUCCEEDED)
        return await watch

    assert states(run(main())) == [State.QUEUED, State.SUCCEEDED]


def test_a_server_that_stays_away_ends_each_watch_thirty_seconds_after_it_began_to_miss_it(service: Service) -> None:
    async def main() -> tuple[float, float, float]:
        loop, early, late = asyncio.get_running_loop(), service.job(), service.job()

        async def time_of_error(job: str) -> float:
            assert isinstance(await service.error_of(job), BrokerUnavailable)
            return loop.time()

        first = asyncio.create_task(time_of_error(early))
        await asyncio.sleep(10)
        service.away, away_since = BrokerUnavailable("away"), loop.time()
        await asyncio.sleep(20)
        second = asyncio.create_task(time_of_error(late))
        return away_since, await first, await second

    away_since, first, second = run(main())
    assert 30 <= first - away_since <= 32
    assert 50 <= second - away_since <= 52


def test_the_timeout_ends_a_watch_as_it_does_without_an_event_loop(service: Service) -> None:
    async def main() -> tuple[Exception, Exception, Exception, float]:
        job = service.job()
        late = await service.error_of(job, timeout=20)
        at = asyncio.get_running_loop().time()
        at_once = await service.error_of(job, timeout=0)
        service.away = BrokerUnavailable("away")
        return late, at_once, await service.error_of(job, timeout=5), at

    late, at_once, away, at = run(main())
    assert isinstance(late, JobTimeout) and "still queued after 20 s" in str(late)
    assert 20 <= at <= 20.1
    assert isinstance(at_once, JobTimeout)
    assert isinstance(away, BrokerUnavailable) and str(away) == "away"


def test_a_job_that_ends_just_before_the_timeout_is_not_late(service: Service) -> None:
    async def main() -> list[JobStatus]:
        job = service.job()
        seen, _ = await asyncio.gather(service.watched(job, timeout=20), service.ended(job, after=19.99))
        return seen

    assert states(run(main())) == [State.QUEUED, State.SUCCEEDED]


def test_a_request_that_is_never_answered_does_not_outlast_the_timeout(service: Service) -> None:
    service.takes = 10**6

    async def main() -> tuple[Exception, float]:
        error = await service.error_of(service.job(), timeout=5)
        return error, asyncio.get_running_loop().time()

    error, at = run(main())
    assert isinstance(error, BrokerUnavailable)
    assert 5 <= at <= 6.1


def test_an_error_about_one_job_reaches_only_those_who_watch_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[object]:
        good, bad = service.job(), service.job()
        service.store._state.records[bad]["request"] = "{"  # type: ignore[attr-defined]
        missing = "0" * 32
        return await asyncio.gather(
            service.watched(good),
            service.error_of(bad),
            service.error_of(bad),
            service.error_of(missing),
            service.ended(good, after=3),
        )

    seen, bad, bad_too, missing, _ = run(main())
    assert states(seen) == [State.QUEUED, State.SUCCEEDED]
    assert isinstance(bad, BadRecord) and isinstance(bad_too, BadRecord) and isinstance(missing, JobNotFound)
    assert bad is not bad_too  # each has a traceback of its own


def test_a_record_that_disappears_ends_the_watch(service: Service) -> None:
    async def main() -> Exception:
        job = service.job()
        error = asyncio.create_task(service.error_of(job))
        await asyncio.sleep(3)
        service.store.discard_job(job)
        return await error

    assert isinstance(run(main()), JobNotFound)


def test_an_unexpected_error_ends_all_watches_and_the_next_one_starts_anew(service: Service) -> None:
    async def main() -> tuple[list[Exception], list[JobStatus]]:
        service.away = ZeroDivisionError("a mistake")
        errors = await asyncio.gather(*(service.error_of(service.job()) for _ in range(2)))
        service.away, job = None, service.job()
        service.store.end_job(job, State.SUCCEEDED)
        return errors, await service.watched(job)

    errors, seen = run(main())
    assert [type(error) for error in errors] == [ZeroDivisionError] * 2
    assert states(seen) == [State.SUCCEEDED]


async def by_break(service: Service, job: str) -> None:
    async for _ in service.watchers.changes(job, 600, None):
        break


async def by_closing(service: Service, job: str) -> None:
    async with aclosing(service.watchers.changes(job, 600, None)) as statuses:
        await anext(statuses)


async def by_cancelling(service: Service, job: str) -> None:
    watch = asyncio.create_task(service.watched(job))
    await asyncio.sleep(5)
    watch.cancel()


async def by_the_end_of_the_job(service: Service, job: str) -> None:
    await asyncio.gather(service.watched(job), service.ended(job, after=5))


@pytest.mark.parametrize("leave", [by_break, by_closing, by_cancelling, by_the_end_of_the_job])
def test_nobody_asks_for_a_job_that_nobody_watches(
    service: Service, leave: Callable[[Service, str], Awaitable[None]]
) -> None:
    async def main() -> tuple[int, int, int]:
        await leave(service, service.job())
        gc.collect()
        await asyncio.sleep(0.1)
        asked, tasks = len(service.asked), len(asyncio.all_tasks())
        await asyncio.sleep(100)
        return asked, tasks, len(service.watchers._of_loops)

    asked, tasks, watching = run(main())
    assert asked == len(service.asked) > 0
    assert (tasks, watching) == (1, 0)


def test_the_watcher_does_not_work_with_the_context_of_the_first_who_watches(service: Service) -> None:
    request: ContextVar[str] = ContextVar("request", default="none")
    heard: list[str] = []
    ask = service.ask

    async def main() -> None:
        async def noted(jobs: Mapping[str, StatusReading | None]) -> Mapping[str, StatusReading]:
            heard.append(request.get())
            return await ask(jobs)

        request.set("of the first page")
        job = service.job()
        service.store.end_job(job, State.SUCCEEDED)
        async for _ in Watchers(noted).changes(job, 600, None):
            pass

    run(main())
    assert heard == ["none"]


@pytest.mark.parametrize(("timeout", "heartbeat"), [(float("nan"), None), (600, 0), (600, -1), (600, float("nan"))])
def test_limits_that_cannot_be_are_refused(service: Service, timeout: float, heartbeat: float | None) -> None:
    with pytest.raises(InvalidRequest):
        run(service.watched(service.job(), timeout, heartbeat))
    assert service.asked == []


def test_an_infinite_timeout_and_heartbeat_are_allowed(service: Service) -> None:
    async def main() -> list[JobStatus]:
        job = service.job()
        seen, _ = await asyncio.gather(service.watched(job, float("inf"), float("inf")), service.ended(job, after=200))
        return seen

    assert states(run(main())) == [State.QUEUED, State.SUCCEEDED]


def test_a_record_that_has_not_changed_is_not_parsed_again(service: Service, monkeypatch) -> None:
    job = service.job()
    (first,) = service.store.statuses({job: None}).values()
    (again,) = service.store.statuses({job: first}).values()
    assert again is first
    service.store.end_job(job, State.CANCELLED)
    (changed,) = service.store.statuses({job: first}).values()
    assert isinstance(changed.answer, JobStatus) and changed.answer.is_terminal
