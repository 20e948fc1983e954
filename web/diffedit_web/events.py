"""The changes of an edit as server-sent events."""

import asyncio
import base64
import hashlib
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from functools import partial

from sse_starlette import EventSourceResponse, ServerSentEvent

from diffedit import AsyncJobHandle, JobNotFound, JobStatus, JobTimeout, Stage, State
from diffedit.errors import DiffEditError, InvalidKey
from diffedit_web.models import Edit, Href
from diffedit_web.problems import problem_of

HEARTBEAT = 15
"""Seconds from one comment to the next, so that proxies keep the connection and a page that went is noticed."""
LONGEST = 3600.0
"""Seconds after which a stream ends. A browser connects again by itself, and goes on where it was."""
RETRY = 2000
"""Milliseconds after which a browser connects again."""
PREVIEW_INTERVAL = 1.0
"""Seconds between two requests for a preview. A worker goes on for 10 seconds without one."""
RECHECK = 60.0
"""Seconds after which is asked again whether the key is valid. It counts as a request with it."""
SEND_TIMEOUT = 30
"""Seconds in which a page must take an event."""
Recheck = Callable[[], Awaitable[object]]
_Event = partial(ServerSentEvent, sep="\n")


def event_stream(
    job: AsyncJobHandle,
    owner: str,
    seen: str | None,
    href: Href,
    *,
    previews: bool = False,
    recheck: Recheck | None = None,
) -> EventSourceResponse:
    """Return the stream of a job's changes: the status now and at every change, until it has ended.

    Args:
        job: the job, of which is known that it is the owner's.
        owner: whose job it is.
        seen: the id of the last event that the page got. It is not sent again.
        href: returns paths, for the statuses.
        previews: whether there are also events with previews, each once, while the picture forms.
        recheck: raises InvalidKey if the caller may not see the job any more. It is asked every `RECHECK` seconds.
    """
    return EventSourceResponse(
        _events(job, owner, seen, href, Previews(job) if previews else None, recheck),
        ping=HEARTBEAT,
        ping_message_factory=lambda: _Event(comment="still here"),
        send_timeout=SEND_TIMEOUT,
        sep="\n",
    )


def event_id(edit: Edit) -> str:
    """Return the id of the event that shows this status: the same in every process."""
    return hashlib.sha256(edit.model_dump_json(exclude={"eta"}).encode()).hexdigest()[:16]


def is_forming(status: JobStatus) -> bool:
    """Return whether a worker makes the picture now, so that there may be previews."""
    return status.state is State.RUNNING and status.stage is Stage.EDIT


class Previews:
    """The previews of a job, as events. Asking for them is what lets a worker make them."""

    def __init__(self, job: AsyncJobHandle) -> None:
        self._job = job
        self._asked_at = -math.inf
        self._last: bytes | None = None

    async def event(self) -> ServerSentEvent | None:
        """Return the preview if it is another one than before; None also if it is too early to ask again."""
        if time.monotonic() - self._asked_at < PREVIEW_INTERVAL:
            return None
        self._asked_at = time.monotonic()
        with suppress(DiffEditError):  # a preview is no loss, and the next status says what is wrong
            preview = await self._job.preview()
            if preview and preview != self._last:
                self._last = preview
                return _Event(f"data:image/webp;base64,{base64.b64encode(preview).decode()}", event="preview")
        return None


async def _check_again(recheck: Recheck) -> None:
    """Raise InvalidKey if the caller's key was revoked. Whatever else fails is no reason to end a stream."""
    try:
        await recheck()
    except InvalidKey:
        raise
    except DiffEditError:
        pass


async def _events(
    job: AsyncJobHandle,
    owner: str,
    seen: str | None,
    href: Href,
    previews: Previews | None,
    recheck: Recheck | None,
) -> AsyncGenerator[ServerSentEvent, None]:
    changes = job.watch(timeout=LONGEST, heartbeat=PREVIEW_INTERVAL if previews else HEARTBEAT)
    last, shown_at, checked_at = None, -math.inf, time.monotonic()
    try:
        async for status in changes:
            if status.owner != owner:  # the id can be that of another job only if the record was replaced
                raise JobNotFound(job.id)
            if recheck and time.monotonic() - checked_at >= RECHECK:
                checked_at = time.monotonic()
                await _check_again(recheck)
            if status is not last or time.monotonic() - shown_at > HEARTBEAT - PREVIEW_INTERVAL:
                last, shown_at = status, time.monotonic()
                # Its place in the queue is no part of its record.
                shown = await job.status(queue=True) if status.state is State.QUEUED else status
                edit = Edit.of(shown, href)
                if (found := event_id(edit)) != seen:
                    yield _Event(edit.model_dump_json(), event="status", id=found, retry=RETRY)
                seen = found
            if previews and is_forming(status) and (event := await previews.event()):
                yield event
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
