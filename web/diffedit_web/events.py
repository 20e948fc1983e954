"""The changes of an edit as server-sent events."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from functools import partial

from sse_starlette import EventSourceResponse, ServerSentEvent

from diffedit import AsyncJobHandle, JobNotFound, JobTimeout, State
from diffedit.errors import DiffEditError
from diffedit_web.models import Edit, Href
from diffedit_web.problems import problem_of

HEARTBEAT = 15
"""Seconds from one comment to the next, so that proxies keep the connection and a page that went is noticed."""
LONGEST = 3600.0
"""Seconds after which a stream ends. A browser connects again by itself, and goes on where it was."""
RETRY = 2000
"""Milliseconds after which a browser connects again."""
SEND_TIMEOUT = 30
"""Seconds in which a page must take an event."""
_Event = partial(ServerSentEvent, sep="\n")


def event_stream(job: AsyncJobHandle, owner: str, seen: str | None, href: Href) -> EventSourceResponse:
    """Return the stream of a job's changes: the status now and at every change, until it has ended.

    Args:
        job: the job, of which is known that it is the owner's.
        owner: whose job it is.
        seen: the id of the last event that the page got. It is not sent again.
        href: returns paths, for the statuses.
    """
    return EventSourceResponse(
        _events(job, owner, seen, href),
        ping=HEARTBEAT,
        ping_message_factory=lambda: _Event(comment="still here"),
        send_timeout=SEND_TIMEOUT,
        sep="\n",
    )


def event_id(edit: Edit) -> str:
    """Return the id of the event that shows this status: the same in every process."""
    return hashlib.sha256(edit.model_dump_json(exclude={"eta"}).encode()).hexdigest()[:16]


async def _events(
    job: AsyncJobHandle, owner: str, seen: str | None, href: Href
) -> AsyncGenerator[ServerSentEvent, None]:
    changes = job.watch(timeout=LONGEST, heartbeat=HEARTBEAT)
    try:
        async for status in changes:
            if status.owner != owner:  # the id can be that of another job only if the record was replaced
                raise JobNotFound(job.id)
            if status.state is State.QUEUED:  # its place in the queue is no part of its record
                status = await job.status(queue=True)
            edit = Edit.of(status, href)
            if (found := event_id(edit)) != seen:
                yield _Event(edit.model_dump_json(), event="status", id=found, retry=RETRY)
            seen = found
    except JobTimeout:
        pass
    except DiffEditError as error:
        # The answer has begun, so that its status can say nothing any more.
        problem, _ = problem_of(error) or (None, None)
        if problem:
            yield _Event(problem.model_dump_json(exclude_none=True), event="problem", retry=RETRY)
    finally:
        # At once, not when the collector of garbage finds the generator: nobody listens any more.
        await asyncio.shield(changes.aclose())
