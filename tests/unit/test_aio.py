"""The asynchronous client, its jobs and results: the names are those of the others, and the event loop never blocks."""

import asyncio
import inspect
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffedit import (
    Admin,
    AsyncAdmin,
    AsyncClient,
    AsyncEditResult,
    AsyncJobHandle,
    Client,
    EditResult,
    JobFailed,
    JobHandle,
    JobNotFound,
    NoWorkerWarning,
    Settings,
    State,
    testing,
    threads,
)
from diffedit.contract.job import Job
from diffedit.errors import ClientBusy
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit.threads import Threads
from tests.support.fake_service import TEXTS, png
from tests.support.forking import in_child

PAIRS = [(Client, AsyncClient), (Admin, AsyncAdmin), (JobHandle, AsyncJobHandle), (EditResult, AsyncEditResult)]
ATTRIBUTES = {"id", "status"}
NOT_AWAITED = {"as_completed", "for_owner", "job", "from_env", "map", "over", "results", "watch"}


@pytest.fixture
def client() -> AsyncClient:
    return testing.async_memory_client()


def names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("blocking", "asynchronous"), PAIRS)
def test_the_names_are_the_same(blocking: type, asynchronous: type) -> None:
    assert names(blocking) - names(asynchronous) == set()
    assert names(asynchronous) - names(blocking) <= ATTRIBUTES | {"over"}


@pytest.mark.parametrize(("blocking", "asynchronous"), PAIRS)
def test_the_arguments_are_the_same(blocking: type, asynchronous: type) -> None:
    for name in names(blocking) & names(asynchronous):
        ours, theirs = getattr(asynchronous, name), getattr(blocking, name)
        if not callable(theirs):
            continue
        parameters = dict(inspect.signature(theirs).parameters)
        parameters.pop("progress", None)  # a bar on a terminal
        assert dict(inspect.signature(ours).parameters) == parameters, name
        assert inspect.iscoroutinefunction(ours) != (name in NOT_AWAITED), name


def test_a_result_has_what_the_other_one_has(client: AsyncClient, tmp_path: Path) -> None:
    async def main() -> None:
        job = await client.edit(png(), source_concept="bowl", target_concept="basket")
        testing.succeed(job, Image.new("RGB", (32, 24), "blue"), caption="a bowl on a table")
        result, blocking = await job.result(timeout=0), client._blocking.job(job.id).result(timeout=0)
        assert result.status == blocking.status
        for name in names(EditResult) - {"file", "grid", "url", "save"}:
            assert await getattr(result, name)() == getattr(blocking, name), name
        assert (await result.image()).getpixel((0, 0)) == (0, 0, 255)
        assert (await result.grid()).size == blocking.grid().size
        assert await result.url(expires=60) == blocking.url(60)
        assert sorted(await result.save(tmp_path)) == ["grid", "manifest", "mask", "result"]

    asyncio.run(main())


def test_a_job_that_failed_says_why(client: AsyncClient) -> None:
    async def main() -> None:
        job = await client.edit(png(), **TEXTS)
        testing.fail(job, "empty_mask", "no difference")
        with pytest.raises(JobFailed, match="no difference"):
            await job.result()

    asyncio.run(main())


def test_nothing_blocks_the_event_loop(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    blocking: list[tuple[str, str]] = []

    def noted(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def note(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                blocking.append((owner.__name__, name))
            return call(*args, **kwargs)

        monkeypatch.setattr(owner, name, note)

    job_store, registry = type(client._blocking._job_store), type(client._blocking._backend.worker_registry)
    for owner in (job_store, registry, MemoryObjectStore):
        for name in {name for kind in owner.__mro__ for name in dir(kind) if not name.startswith("_")}:
            noted(owner, name)

    async def main() -> None:
        async with client:
            job = await client.edit(png(), **TEXTS)
            await asyncio.to_thread(testing.succeed, job)
            result = await job.result()
            for name in names(AsyncEditResult) - {"status", "save"}:
                await getattr(result, name)()
            await (await job.retry()).cancel()
            await (await client.preview_mask(png(), **TEXTS)).status()
            await client.jobs()
            await client.health()
            await client.collect_garbage("30d")

    asyncio.run(main())
    assert blocking == []


def test_results_of_different_jobs_are_downloaded_at_the_same_time(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, get = threading.Barrier(3), MemoryObjectStore.get

    def get_together(*args: Any) -> bytes:
        together.wait(timeout=30)  # raises if the others wait for this download
        return get(*args)

    async def main() -> list[tuple[int, int]]:
        results = []
        for _ in range(3):
            job = await client.edit(png(), **TEXTS)
            testing.succeed(job)
            results.append(await job.result())
        monkeypatch.setattr(MemoryObjectStore, "get", get_together)
        return [image.size for image in await asyncio.gather(*(result.image() for result in results))]

    assert asyncio.run(main()) == [(32, 24)] * 3


@pytest.mark.parametrize("max_connections", [4, 20])
def test_calls_run_in_half_as_many_threads_as_it_may_have_connections(max_connections: int) -> None:
    used = set()

    def send(job: Job) -> None:
        used.add(threading.current_thread())
        time.sleep(0.01)

    settings = Settings(max_connections=max_connections)
    client = AsyncClient(settings, backend=memory_backend(), object_store=MemoryObjectStore(), send=send)

    async def main() -> list[threading.Thread]:
        async with client:
            await asyncio.gather(*(client.edit(png(), **TEXTS) for _ in range(30)))
        return [thread for thread in used if thread.is_alive()]

    with pytest.warns(NoWorkerWarning):
        assert asyncio.run(main()) == []
    assert len(used) == max_connections // 2


def test_context_variables_are_those_of_the_caller() -> None:
    request: ContextVar[str] = ContextVar("request")

    async def main() -> list[str]:
        pool = Threads(2, "test")

        async def call(name: str) -> str:
            request.set(name)
            return await pool.run(request.get)

        answers = await asyncio.gather(call("a"), call("b"))
        await pool.close()
        return answers

    assert asyncio.run(main()) == ["a", "b"]


def test_a_call_that_has_not_begun_when_its_caller_is_cancelled_is_not_made() -> None:
    made: list[str] = []

    async def main() -> None:
        pool, go_on = Threads(1, "test"), threading.Event()
        first = asyncio.create_task(pool.run(go_on.wait))
        second = asyncio.create_task(pool.run(lambda: made.append("second")))
        third = asyncio.create_task(pool.run(lambda: made.append("third")))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        await asyncio.gather(first, third)
        await pool.close()

    asyncio.run(main())
    assert made == ["third"]


def test_a_call_does_not_wait_for_ever_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        pool, begun, go_on = Threads(1, "test"), threading.Event(), threading.Event()
        first = asyncio.create_task(pool.run(lambda: begun.set() or go_on.wait()))
        await asyncio.to_thread(begun.wait)
        monkeypatch.setattr(threads, "MAX_WAIT", 0.01)
        second = asyncio.create_task(pool.run(lambda: None))
        await asyncio.sleep(0.05)
        go_on.set()
        await first
        with pytest.raises(ClientBusy, match="did not begin"):
            await second
        await pool.close()

    asyncio.run(main())


def test_a_closed_client_works_again_and_can_be_closed_twice(client: AsyncClient) -> None:
    async def main() -> State:
        async with client:
            job = await client.edit(png(), **TEXTS)
        await client.close()
        state = (await job.status()).state
        await client.close()
        return state

    assert asyncio.run(main()) is State.QUEUED


def test_a_forked_child_has_threads_of_its_own(client: AsyncClient) -> None:
    async def use() -> list[State]:
        job = await client.edit(png(), **TEXTS)
        seen = []
        async for status in job.watch(timeout=20):
            seen.append(status.state)
            await job.cancel()
        return seen

    expected = [State.QUEUED, State.CANCELLED]
    assert asyncio.run(use()) == expected
    assert in_child(lambda: asyncio.run(use())) == expected
    assert asyncio.run(use()) == expected


def test_the_jobs_of_others_do_not_exist_for_an_owner(client: AsyncClient) -> None:
    async def main() -> None:
        mine, others = client.for_owner("u1"), client.for_owner("u2")
        job = await others.edit(png(), **TEXTS)
        hidden = mine.job(job.id)
        for call in (hidden.status, hidden.wait, hidden.result, hidden.cancel, hidden.retry, hidden.delete):
            with pytest.raises(JobNotFound):
                await call()
        with pytest.raises(JobNotFound):
            async for _ in hidden.watch():
                pass
        assert [status.id for status in await others.jobs()] == [job.id]
        assert await mine.jobs() == []
        await others.job(job.id).delete()
        assert (await client.delete_owner("u2")).jobs == 0

    asyncio.run(main())
