"""Many edits at once: rows become jobs, so many at a time, and one watcher follows all of them.

This is the one definition of `Client.map`, `as_completed` and `results`, and of those of `AsyncClient`. It runs in an
event loop; `blocking.py` runs it for a program that has none.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Protocol, TypeVar

from diffedit.contract.job import JobStatus
from diffedit.engine import Engine
from diffedit.errors import BrokerUnavailable, DiffEditError, InvalidRequest, JobNotFound, JobTimeout, ServiceError
from diffedit.handle import JobHandle, raise_unless_succeeded
from diffedit.result import EditResult

T = TypeVar("T")
A = TypeVar("A")
Row = TypeVar("Row", bound=Mapping[str, object])
"""The keyword arguments of an edit."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds until a row that was refused for now is submitted again."""
MAX_IN_FLIGHT = 10_000
MAX_LOST = 3
"""How often a row is submitted again because the record of its job was lost."""

Outcome = EditResult | DiffEditError
"""What came of a row: its result, or the error of its submission or of its job."""


class HasId(Protocol):
    """A handle of a job: `JobHandle` or `AsyncJobHandle`."""

    @property
    def id(self) -> str: ...


Handle = TypeVar("Handle", bound=HasId)


def check_limits(in_flight: int, timeout: float) -> None:
    """Raise InvalidRequest if rows cannot be mapped with these limits."""
    if not (isinstance(in_flight, int) and 1 <= in_flight <= MAX_IN_FLIGHT):
        raise InvalidRequest(f"in_flight: give a whole number from 1 to {MAX_IN_FLIGHT}; got {in_flight!r}")
    check_timeout(timeout)


def check_timeout(timeout: float) -> None:
    """Raise InvalidRequest unless this is a time to wait."""
    if not timeout > 0:
        raise InvalidRequest(f"timeout: give a positive number of seconds; got {timeout!r}")


class BulkEdits:
    """Submits rows and follows their jobs, in one event loop."""

    def __init__(self, engine: Engine, submit: Callable[[Mapping[str, Any]], JobHandle], timeout: float) -> None:
        """`submit` queues a row, in a thread. `timeout` is the time of each row, from its first try to its end."""
        self._engine = engine
        self._submit = submit
        self._timeout = timeout
        self._gate = asyncio.Lock()

    async def map(
        self, rows: AsyncIterator[Row], in_flight: int, finish: Callable[[Row, EditResult], T]
    ) -> AsyncGenerator[tuple[Row, T | DiffEditError], None]:
        """Yield each row with what `finish` (called in a thread) makes of its result, or with its error.

        Raises:
            ServiceError: one that is not retryable. It would be that of every row.
        """

        async def edit(row: Row) -> T:
            end = time.monotonic() + self._timeout
            # So that it can be repeated: an attempt whose answer was lost may have queued it.
            asked = {"idempotency_key": uuid.uuid4().hex, **row} if isinstance(row, Mapping) else row
            result = await self._made(asked, end)
            return await self._patiently(lambda: finish(row, result), end)

        async with aclosing(concurrently(rows, edit, in_flight)) as outcomes:
            async for row, outcome in outcomes:
                if isinstance(outcome, ServiceError) and not outcome.retryable:
                    raise outcome
                yield row, outcome

    async def _made(self, row: Mapping[str, Any], end: float) -> EditResult:
        for _ in range(MAX_LOST):
            with suppress(JobNotFound):  # a crash of Redis may lose what was recorded just before
                return await result_of(await self._queued(row, end), self._engine, end)
        return await result_of(await self._queued(row, end), self._engine, end)

    async def _queued(self, row: Mapping[str, Any], end: float) -> JobHandle:
        """Queue a row. While the queue is full or a service is away, one row tries again; the others wait for it."""
        while self._gate.locked():
            async with self._gate:
                pass
        try:
            return await self._engine.threads.run(lambda: self._submit(row))
        except DiffEditError as error:
            if not error.retryable:
                raise
        async with self._gate:
            await asyncio.sleep(FIRST_PAUSE)
            return await self._patiently(lambda: self._submit(row), end)

    async def _patiently(self, call: Callable[[], T], end: float) -> T:
        """Make a call in a thread, again and again while it raises what a later call may not."""
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._engine.threads.run(call)
            except DiffEditError as error:
                if not error.retryable or time.monotonic() + pause >= end:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


async def completed(
    jobs: Iterable[Handle], engine: Engine, handle_of: Callable[[str], JobHandle], timeout: float
) -> AsyncGenerator[tuple[Handle, Outcome], None]:
    """Yield each job with its result or its error when it has ended, in this order."""
    end = time.monotonic() + timeout

    async def result(job: Handle) -> EditResult:
        return await result_of(handle_of(job.id), engine, end)

    given = list(jobs)
    async with aclosing(concurrently(iterated(given), result, max(1, len(given)))) as outcomes:
        async for job, outcome in outcomes:
            yield job, outcome


async def ended(outcomes: AsyncGenerator[tuple[Handle, Outcome], None]) -> AsyncGenerator[Handle, None]:
    """Yield the jobs of `completed`. Raises JobTimeout if one has not ended in time, BrokerUnavailable."""
    async with aclosing(outcomes):
        async for job, outcome in outcomes:
            if isinstance(outcome, JobTimeout | ServiceError):
                raise outcome
            yield job


async def result_of(job: JobHandle, engine: Engine, end: float) -> EditResult:
    """Wait until the job has succeeded, and return its result. `end` is a time of the monotonic clock.

    Raises:
        JobFailed, JobCancelled, JobExpired, JobTimeout, JobNotFound, BadRecord, BrokerUnavailable: it has none.
    """
    status = job._own(await _ended(job.id, engine, end))
    raise_unless_succeeded(status)
    return job._result_of(status)


async def _ended(job_id: str, engine: Engine, end: float) -> JobStatus:
    while True:
        left = end - time.monotonic()
        try:
            async with aclosing(engine.watchers.changes(job_id, max(left, 0.0), None)) as changes:
                return [status async for status in changes if status.is_terminal][-1]
        except BrokerUnavailable:
            # A single wait bears an outage of half a minute. Hours of work should bear a longer one.
            if time.monotonic() + LONGEST_PAUSE >= end:
                raise
            await asyncio.sleep(LONGEST_PAUSE)


async def concurrently(
    items: AsyncIterator[A], work: Callable[[A], Awaitable[T]], limit: int
) -> AsyncGenerator[tuple[A, T | DiffEditError], None]:
    """Yield each item with what `work` returns for it, or with the error of ours that it raises, as they end.

    At most `limit` items are taken and not yet yielded. When the generator is closed, what is left is cancelled.
    """
    running: dict[asyncio.Task[T | DiffEditError], A] = {}
    taking: asyncio.Task[list[A]] | None = None
    more = True
    try:
        while True:
            if more and taking is None and len(running) < limit:
                taking = asyncio.create_task(_next(items))
            if not (taking or running):
                return
            done, _ = await asyncio.wait({*running, *filter(None, [taking])}, return_when=asyncio.FIRST_COMPLETED)
            if taking in done:
                taken, taking = taking.result(), None
                more = bool(taken)
                for item in taken:
                    started: asyncio.Task[T | DiffEditError] = asyncio.create_task(_outcome(work, item))
                    running[started] = item
            for task in [task for task in running if task in done]:
                yield running.pop(task), task.result()
    finally:
        left: list[asyncio.Task[Any]] = [*running, *filter(None, [taking])]
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def iterated(items: Iterable[A]) -> AsyncIterator[A]:
    """Yield what is there already."""
    for item in items:
        yield item


async def taken_in_threads(items: Iterable[A], engine: Engine) -> AsyncGenerator[A, None]:
    """Yield from an iterable that may take its time, such as one that reads a file."""
    iterator = iter(items)
    while item := await engine.threads.run(lambda: list(itertools.islice(iterator, 1))):
        yield item[0]


async def _next(items: AsyncIterator[A]) -> list[A]:
    """Return the next item in a list, or an empty list at the end."""
    async for item in items:
        return [item]
    return []


async def _outcome(work: Callable[[A], Awaitable[T]], item: A) -> T | DiffEditError:
    try:
        return await work(item)
    except DiffEditError as error:
        return error
