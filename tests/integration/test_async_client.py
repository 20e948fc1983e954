"""The asynchronous client over a real Valkey: how many connections and requests it costs, and what an outage does."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from diffedit import AsyncClient, JobCancelled, Settings, State
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.redis_statuses import RedisStatuses
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import TEXTS, a_job
from tests.support.fake_service import png
from tests.support.spies import spy

PAGES = 1000

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")


@pytest.fixture
def connections(settings: Settings) -> Iterator[Callable[[], int]]:
    """How many connections the server has, besides those that it had at the start of the test."""
    server = redis.Redis.from_url(settings.redis_url.get_secret_value())
    before = {client["id"] for client in server.client_list()}
    yield lambda: len([client for client in server.client_list() if client["id"] not in before])
    server.close()


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        await asyncio.sleep(0.02)


def test_a_thousand_open_pages_cost_one_connection_and_one_round_trip_for_each_request(
    settings: Settings, connections: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = redis_backend(settings).job_store
    jobs = [store.create_job(a_job()) for _ in range(PAGES)]
    others = connections()
    requests = spy(monkeypatch, RedisStatuses, "statuses")
    round_trips = spy(monkeypatch, redis.client.Pipeline, "execute")
    commands = spy(monkeypatch, redis.Redis, "execute_command")
    seen: dict[str, list[State]] = {job: [] for job in jobs}

    async def page(client: AsyncClient, job: str) -> None:
        async for status in client.job(job).watch(timeout=60, heartbeat=15):
            seen[job].append(status.state)

    async def main() -> None:
        async with AsyncClient(settings) as client:
            pages = [asyncio.create_task(page(client, job)) for job in jobs]
            await until(lambda: all(seen.values()), "a status for each page")
            begun = len(requests)
            await until(lambda: len(requests) >= begun + 5, "more requests")
            assert commands == []
            assert connections() - others == 1
            assert max(len(asked) for _, asked in requests) > PAGES / 2
            await asyncio.to_thread(lambda: [store.end_job(job, State.CANCELLED) for job in jobs])
            await asyncio.gather(*pages)
            ended = len(requests)
            assert len(round_trips) == ended
            await asyncio.sleep(0.5)
            assert len(requests) == ended
        assert connections() == others

    asyncio.run(main())
    assert set(map(tuple, seen.values())) == {(State.QUEUED, State.CANCELLED)}


def test_many_calls_at_once_use_no_more_connections_than_allowed(
    settings: Settings, connections: Callable[[], int]
) -> None:
    async def main() -> list[State]:
        async with AsyncClient(settings.model_copy(update={"max_connections": 8})) as client:
            jobs = await asyncio.gather(*(client.edit(png(), **TEXTS) for _ in range(40)))
            watched = [asyncio.create_task(job.wait()) for job in jobs]
            statuses = await asyncio.gather(*(job.status() for job in jobs))
            assert 1 < connections() <= 8
            await asyncio.gather(*(job.cancel() for job in jobs))
            await asyncio.gather(*watched, return_exceptions=True)
            return [status.state for status in statuses]

    assert asyncio.run(main()) == [State.QUEUED] * 40
    assert connections() == 0


@pytest.mark.timeout(120)
def test_a_restart_of_redis_interrupts_no_watch(tmp_path_factory: pytest.TempPathFactory) -> None:
    with LocalServices(tmp_path_factory.mktemp("restarted")) as stack:

        async def main() -> list[type[BaseException | None]]:
            async with AsyncClient(Settings.from_env(stack.environment)) as client:
                jobs = await asyncio.gather(*(client.edit(png(), **TEXTS) for _ in range(20)))
                watches = [asyncio.create_task(job.wait(timeout=90)) for job in jobs]
                await asyncio.sleep(1)
                await asyncio.to_thread(stack.stop, stack.processes["valkey"])
                await asyncio.sleep(3)
                assert not any(watch.done() for watch in watches)
                await asyncio.to_thread(stack.start_valkey)
                await asyncio.to_thread(stack.wait_ready)
                assert all(await asyncio.gather(*(job.cancel() for job in jobs)))
                await asyncio.wait(watches)
                return [type(watch.exception()) for watch in watches]

        assert asyncio.run(main()) == [JobCancelled] * 20
