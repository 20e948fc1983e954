"""Edits: submit, list, show, follow, cancel, retry, delete."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse

from diffedit import IdempotencyConflict, InvalidRequest, QueueFull, State
from diffedit.errors import ArtifactError, NewerRecord, OwnerLimit, UnknownProfile, UploadNotFound
from diffedit_web.access import Called, Caller
from diffedit_web.bodies import Body, is_json, read_form, read_json
from diffedit_web.events import event_id, event_stream
from diffedit_web.fields import UPLOADED, options_of
from diffedit_web.models import Edit, EditPage
from diffedit_web.problem_route import ProblemRoute
from diffedit_web.problems import documented
from diffedit_web.routes.common import (
    EVERY_ROUTE,
    OF_A_PICTURE,
    OF_AN_EDIT,
    ROUTE_NAME,
    EditId,
    IdempotencyKey,
    Prefer,
    accepted,
    href_of,
    operation_id,
    owned_job,
    submitted,
)
from diffedit_web.waiting import status_within, wait_of, while_connected

router = APIRouter(route_class=ProblemRoute, generate_unique_id_function=operation_id)

FILES = {"image": "image", "mask": "mask"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/EditForm"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/EditJson"}},
        },
    }
}
"""The routes read the body themselves, after the caller is known."""
OF_A_LIMIT = (OwnerLimit, (429, OwnerLimit.code))
"""For good, or until an edit of the owner has ended."""
SUBMISSION = accepted(*OF_A_PICTURE, IdempotencyConflict, QueueFull, *OF_A_LIMIT, UploadNotFound, UnknownProfile)
STATUS_EVENT = {
    "type": "object",
    "description": "A status, or why it cannot be read.",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["status", "problem"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Edit"},
        },
        "id": {"type": "string", "description": "Stands for the content of the status."},
        "retry": {"type": "integer", "description": "Milliseconds after which to connect again."},
    },
}
PREVIEW_EVENT = {
    "type": "object",
    "description": "A small picture of the edit as it forms.",
    "required": ["event", "data"],
    "properties": {
        "event": {"const": "preview"},
        "data": {"type": "string", "description": "The data URI of a WebP file."},
    },
}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": 'Events of the type "status", whose data is an `Edit`, and whose id stands for its content. The '
        "stream ends after the status with which the edit has ended. If that cannot be read, there is an event "
        '"problem" whose data is a `Problem`. With `preview=true` there are also events "preview", whose data is the '
        "data URI of a WebP file. They have no id, and do not come again.",
        "content": {"text/event-stream": {"schema": {"oneOf": [STATUS_EVENT, PREVIEW_EVENT]}}},
    },
    204: {"description": "The page has seen the end of the edit, and there will be no more events."},
    **documented(*OF_AN_EDIT),
}


@router.post("/v1/edits", status_code=202, responses=SUBMISSION, openapi_extra=BODY, name=f"{ROUTE_NAME}submit")
async def submit_edit(
    request: Request, response: Response, caller: Called, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Edit:
    """Edit a picture.

    Send the picture as a form, or the key of an upload as JSON. Say what to change in one of three ways: two prompts;
    two concepts; or a target prompt alone.
    """
    async with _asked(request, caller) as asked:
        job = await caller.client.edit(**asked, idempotency_key=idempotency_key)
    return await submitted(request, response, job, prefer)


@router.post("/v1/masks", status_code=202, responses=SUBMISSION, openapi_extra=BODY, name=f"{ROUTE_NAME}submit_mask")
async def submit_mask(
    request: Request, response: Response, caller: Called, idempotency_key: IdempotencyKey = None, prefer: Prefer = None
) -> Edit:
    """Find only the mask: what an edit would change.

    An edit of the same picture with the same options and the same `seed` reuses this mask.
    """
    async with _asked(request, caller) as asked:
        job = await caller.client.preview_mask(**asked, idempotency_key=idempotency_key)
    return await submitted(request, response, job, prefer)


@router.get("/v1/edits", responses=documented(*EVERY_ROUTE), name=f"{ROUTE_NAME}edits")
async def list_edits(
    request: Request,
    caller: Called,
    state: Annotated[State | None, Query(description="Only edits in this state.")] = None,
    tag: Annotated[
        str | None,
        Query(
            description='Only edits with this tag: its name, or its name and value as "album=9".',
            max_length=141,
            examples=["album=9"],
        ),
    ] = None,
    cursor: Annotated[
        str | None, Query(description="The `next_cursor` of the page before.", max_length=200, examples=[None])
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Edits of a page.")] = 20,
) -> EditPage:
    """List your edits, the newest first."""
    name, equals, value = (tag or "").partition("=")
    page = await caller.client.jobs(
        state=state, tag=((name, value) if equals else name) if tag is not None else None, cursor=cursor, limit=limit
    )
    href = href_of(request)
    return EditPage(data=[Edit.of(status, href) for status in page], next_cursor=page.cursor)


@router.get("/v1/edits/{edit_id}", responses=documented(*OF_AN_EDIT), name=f"{ROUTE_NAME}edit")
async def show_edit(
    request: Request, response: Response, caller: Called, edit_id: EditId, prefer: Prefer = None
) -> Edit:
    """Show an edit: its state, progress, and error."""
    job, status = await owned_job(caller, edit_id)
    seconds = wait_of(prefer)
    if seconds is not None:
        response.headers["Preference-Applied"] = f"wait={seconds}"
        status = await while_connected(request, status_within(job, seconds))
    return Edit.of(status, href_of(request))


@router.get(
    "/v1/edits/{edit_id}/events",
    response_class=EventSourceResponse,
    responses=EVENTS,
    name=f"{ROUTE_NAME}events",
)
async def follow_edit(
    request: Request,
    caller: Called,
    edit_id: EditId,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", max_length=64, description="The id of the last event that was received."),
    ] = None,
    preview: Annotated[bool, Query(description="Whether to send small pictures of the edit as it forms, too.")] = False,
) -> Response:
    """Follow an edit: its status now and at every change, as server-sent events.

    A comment is sent every 15 seconds. A browser that connects again sends the id of the last event, which is not
    repeated.
    """
    job, status = await owned_job(caller, edit_id)
    href = href_of(request)
    if status.is_terminal and event_id(Edit.of(status, href)) == last_event_id:
        return Response(status_code=204)  # the standard's word for "do not connect again"
    recheck = getattr(request.state, "diffedit_recheck", None)
    return event_stream(job, caller.owner, last_event_id, href, previews=preview, recheck=recheck)


@router.post("/v1/edits/{edit_id}/cancel", responses=documented(*OF_AN_EDIT), name=f"{ROUTE_NAME}cancel")
async def cancel_edit(request: Request, caller: Called, edit_id: EditId) -> Edit:
    """Cancel an edit. A queued edit never starts, and a running one stops within one step.

    An edit that has ended stays as it is; `state` tells.
    """
    job, _ = await owned_job(caller, edit_id)
    await job.cancel()
    return Edit.of(await job.status(), href_of(request))


@router.post(
    "/v1/edits/{edit_id}/retry",
    status_code=202,
    responses=accepted(*OF_AN_EDIT, IdempotencyConflict, QueueFull, *OF_A_LIMIT, NewerRecord),
    name=f"{ROUTE_NAME}retry",
)
async def retry_edit(
    request: Request,
    response: Response,
    caller: Called,
    edit_id: EditId,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Edit:
    """Submit an edit that has ended again, as a new edit. It reuses what the first one has made."""
    job, _ = await owned_job(caller, edit_id)
    again = await job.retry(idempotency_key=idempotency_key)
    return await submitted(request, response, again, prefer)


@router.post(
    "/v1/edits/{edit_id}/webhook",
    status_code=202,
    responses=documented(*OF_AN_EDIT),
    name=f"{ROUTE_NAME}resend_webhook",
)
async def resend_webhook(request: Request, caller: Called, edit_id: EditId) -> Edit:
    """Send the last event of an edit to its webhook again."""
    job, _ = await owned_job(caller, edit_id)
    await job.resend_webhook()
    return Edit.of(await job.status(), href_of(request))


@router.delete(
    "/v1/edits/{edit_id}",
    status_code=204,
    responses=documented(*OF_AN_EDIT, ArtifactError),
    name=f"{ROUTE_NAME}delete",
)
async def delete_edit(caller: Called, edit_id: EditId) -> None:
    """Delete an edit with its pictures. One that has not ended is cancelled first."""
    job, _ = await owned_job(caller, edit_id)
    await job.delete()


@asynccontextmanager
async def _asked(request: Request, caller: Caller) -> AsyncIterator[dict[str, Any]]:
    """Give the pictures and the options of a request, as keyword arguments of `Client.edit`.

    No other argument gets through: `options_of` knows neither pictures, which could be paths of files, nor owners.
    """
    if is_json(request):
        body = await read_json(request)
        uploaded = body.values.get(UPLOADED)
        if not isinstance(uploaded, str):
            raise InvalidRequest(f"{UPLOADED}: give the key of an upload, or send the picture as a form")
        yield {UPLOADED: uploaded, **await _options(body, caller)}
        return
    async with read_form(request, FILES) as body:
        if "image" not in body.files:
            raise InvalidRequest("image: the picture is missing")
        yield {**body.files, **await _options(body, caller)}


async def _options(body: Body, caller: Caller) -> dict[str, Any]:
    options = options_of(body)
    if "profile" in options:  # nobody would see the client's warning, and the edit would wait for ever
        await caller.client.check_profile(options["profile"])
    return options
