"""What an asynchronous client does: over the doubles in tests/unit, over Redis in tests/integration."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from diffedit import (
    AsyncClient,
    AsyncJobHandle,
    BadRecord,
    Client,
    IdempotencyConflict,
    InvalidRequest,
    JobCancelled,
    JobNotFound,
    JobStatus,
    JobTimeout,
    NoWorkerWarning,
    Settings,
    Stage,
    State,
)
from diffedit.contract.job import Job
from diffedit.jobs.backend import JobBackend
from diffedit.testing import MemoryObjectStore
from tests.support.backend_behaviour import ME, BackendBehaviour, new_job, until_overdue
from tests.support.factories import TEXTS, a_job, a_worker
from tests.support.fake_service import png


def an_async_client(backend: JobBackend, send: Callable[[Job], None] = lambda job: None) -> AsyncClient:
    """Return a client that records its jobs in this backend and sends no messages."""
    backend.worker_registry.send_heartbeat(a_worker())
    return AsyncClient(Settings(), backend=backend, object_store=MemoryObjectStore(), send=send)


class AsyncClientBehaviour(BackendBehaviour):
    def test_a_job_is_submitted_watched_cancelled_and_submitted_again(self, backend: JobBackend) -> None:
        async def main() -> list[State]:
            async with an_async_client(backend) as client:
                job = await client.edit(png(), **TEXTS, seed=5)
                seen, again = [], client.job(job.id)
                async for status in again.watch(timeout=30):
                    seen.append(status.state)
                    if status.state is State.QUEUED:
                        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
                    elif status.state is State.RUNNING:
                        assert await job.cancel()
                with pytest.raises(JobCancelled):
                    await job.wait(timeout=30)
                retried = await job.retry()
                assert isinstance(retried, AsyncJobHandle) and retried.id != job.id
                assert (await retried.status()).request == (await job.status()).request
                assert {status.id for status in await client.jobs(limit=2)} == {job.id, retried.id}
            return seen

        assert asyncio.run(main()) == [State.QUEUED, State.RUNNING, State.CANCELLED]

    def test_it_records_what_the_other_client_records(self, backend: JobBackend) -> None:
        options = {**TEXTS, "seed": 5, "lane": "batch", "deadline": 600, "idempotency_key": uuid.uuid4().hex}
        blocking = Client(Settings(), backend=backend, object_store=MemoryObjectStore(), send=lambda job: None)

        async def main() -> None:
            client = an_async_client(backend)
            job = await client.edit(png(), **options)
            assert blocking.edit(png(), **options).id == job.id
            with pytest.raises(IdempotencyConflict) as conflict:
                await client.edit(png(), **{**options, "seed": 6})
            assert conflict.value.job_id == job.id
            two = await client.edit_many(png(), ["a", "b"], source_prompt="c")
            assert [blocking.job(each.id).status().request.target_prompt for each in two] == ["a", "b"]

        asyncio.run(main())

    def test_all_jobs_are_read_at_once_and_each_has_its_own_answer(
        self, backend: JobBackend, rewrite: Callable[..., None]
    ) -> None:
        good, bad, ended, late = (new_job(backend), new_job(backend), new_job(backend), a_job(deadline=0.2))
        backend.job_store.create_job(late)
        rewrite(backend, bad, request="{")
        backend.job_store.end_job(ended.id, State.CANCELLED)
        until_overdue(backend, late)
        missing = uuid.uuid4().hex
        found = backend.job_store.statuses(dict.fromkeys([good.id, bad.id, ended.id, late.id, missing]))
        answers = {job_id: reading.answer for job_id, reading in found.items()}
        assert isinstance(answers[bad.id], BadRecord) and isinstance(answers[missing], JobNotFound)
        states = [answers[job.id].state for job in (good, ended, late)]
        assert states == [State.QUEUED, State.CANCELLED, State.EXPIRED]
        assert backend.job_store.statuses({}) == {}

    def test_a_record_that_is_as_before_has_the_same_answer(self, backend: JobBackend) -> None:
        job = new_job(backend)
        (first,) = backend.job_store.statuses({job.id: None}).values()
        assert backend.job_store.statuses({job.id: first})[job.id] is first
        backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        changed = backend.job_store.statuses({job.id: first})[job.id]
        assert isinstance(changed.answer, JobStatus) and changed.answer.state is State.RUNNING
        backend.job_store.discard_job(job.id)
        assert isinstance(backend.job_store.statuses({job.id: changed})[job.id].answer, JobNotFound)

    def test_a_job_expires_while_it_is_watched(self, backend: JobBackend) -> None:
        async def main() -> list[State]:
            async with an_async_client(backend) as client:
                job = await client.edit(png(), **TEXTS, start_timeout=2)
                return [status.state async for status in job.watch(timeout=30)]

        assert asyncio.run(main()) == [State.QUEUED, State.EXPIRED]

    def test_a_preview_is_what_the_worker_has_published(self, backend: JobBackend) -> None:
        async def main() -> list[bytes | None]:
            async with an_async_client(backend) as client:
                job = await client.for_owner("u1").edit(png(), **TEXTS)
                found = [await job.preview()]
                backend.job_store.publish_preview(job.id, b"RIFF")
                found.append(await job.preview())
                with pytest.raises(JobNotFound):
                    await client.for_owner("u2").job(job.id).preview()
                return found

        assert asyncio.run(main()) == [None, b"RIFF"]

    def test_errors_are_those_of_the_other_client(self, backend: JobBackend) -> None:
        async def error_of(call: Coroutine[Any, Any, object]) -> type[BaseException]:
            with pytest.raises(Exception) as caught:
                await call
            return caught.type

        async def main() -> list[type[BaseException]]:
            async with an_async_client(backend) as client:
                job, missing = await client.edit(png(), **TEXTS), client.job("a" * 32)
                calls = [
                    client.edit(png(), **TEXTS, strength=7),
                    job.retry(),
                    job.wait(timeout=1),
                    missing.status(),
                    missing.wait(),
                    missing.cancel(),
                ]
                return [await error_of(call) for call in calls]

        assert asyncio.run(main()) == [InvalidRequest, InvalidRequest, JobTimeout, *[JobNotFound] * 3]

    def test_a_warning_names_the_line_that_awaits_the_call(self, backend: JobBackend) -> None:
        async def main() -> None:
            async with an_async_client(backend) as client:
                with pytest.warns(NoWorkerWarning) as caught:
                    await client.edit(png(), **TEXTS, profile="nobody")
                assert [warning.filename for warning in caught] == [__file__]

        asyncio.run(main())

    def test_a_call_whose_caller_is_cancelled_is_made_to_its_end(self, backend: JobBackend) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def send(job: Job) -> None:
            begun.set()
            assert go_on.wait(30)

        async def main() -> list[State]:
            async with an_async_client(backend, send) as client:
                key = uuid.uuid4().hex
                call = asyncio.create_task(client.edit(png(), **TEXTS, seed=1, idempotency_key=key))
                await asyncio.to_thread(begun.wait, 30)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                go_on.set()
                job = await client.edit(png(), **TEXTS, seed=1, idempotency_key=key)
                return [status.state for status in await client.jobs() if status.id == job.id]

        assert asyncio.run(main()) == [State.QUEUED]

    def test_it_serves_one_event_loop_after_another_and_several_at_once(self, backend: JobBackend) -> None:
        client = an_async_client(backend)

        async def main(number: int) -> list[State]:
            job = await client.edit(png(), **TEXTS)
            seen = []
            async for status in job.watch(timeout=30):
                seen.append(status.state)
                if not status.is_terminal:
                    await job.cancel()
            if number % 2:
                await client.close()
            return seen

        for number in range(2):
            assert asyncio.run(main(number)) == [State.QUEUED, State.CANCELLED]
        with ThreadPoolExecutor(4) as threads:
            seen = list(threads.map(lambda number: asyncio.run(main(2 * number)), range(8)))
        assert seen == [[State.QUEUED, State.CANCELLED]] * 8
