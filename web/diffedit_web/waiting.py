"""Requests that wait for an edit, and end when the caller goes."""

import asyncio
import re
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from diffedit import AsyncJobHandle, JobStatus, JobTimeout
from diffedit_web.problem_route import CallerWent

T = TypeVar("T")

MAX_WAIT = 60
"""Seconds of `Prefer: wait`, at most. Proxies end requests that take longer."""
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


def wait_of(prefer: str | None) -> int | None:
    """Return the seconds that the header `Prefer: wait=SECONDS` (RFC 7240) asks for; None if it does not."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), MAX_WAIT) if found else None


async def status_within(job: AsyncJobHandle, seconds: float) -> JobStatus:
    """Return the status of the job when it has ended, or after so many seconds."""
    last = None
    try:
        async for status in job.watch(timeout=seconds):
            last = status
    except JobTimeout:
        pass
    return last or await job.status(queue=True)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Return what `work` returns. Cancel it if the caller goes meanwhile: then nobody takes the answer.

    The body of the request must have been read.

    Raises:
        CallerWent: the caller has gone.
    """
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CallerWent
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
