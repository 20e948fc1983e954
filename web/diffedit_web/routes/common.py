"""What several routes share: paths of an edit, its status for its owner, headers in OpenAPI."""

from typing import Annotated, Any

from fastapi import Header, Path, Request, Response
from fastapi.routing import APIRoute

from diffedit import (
    AsyncJobHandle,
    BadPicture,
    BadRecord,
    BrokerUnavailable,
    InvalidRequest,
    JobNotFound,
    JobStatus,
    StoreUnavailable,
)
from diffedit.errors import InvalidKey, RateLimited
from diffedit_web.access import Caller
from diffedit_web.models import Edit, Href
from diffedit_web.problems import documented
from diffedit_web.waiting import status_within, wait_of, while_connected

ROUTE_NAME = "diffedit_"
"""How the names of routes begin, so that they are not those of the application in which they are mounted."""

EVERY_ROUTE = (InvalidKey, RateLimited, InvalidRequest, 403, BrokerUnavailable)
"""The errors that each route of an owner can answer with."""
OF_AN_EDIT = (*EVERY_ROUTE, JobNotFound, BadRecord)
OF_A_BODY = (408, 413, 415)
OF_A_PICTURE = (*EVERY_ROUTE, *OF_A_BODY, BadPicture, StoreUnavailable)

EditId = Annotated[str, Path(description="The id of the edit.", pattern="^[0-9a-f]{32}$", examples=["5f0c" * 8])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 200 printable characters. A repeated request with the same key starts nothing new and "
        "returns the edit of the first one. Another request with this key is refused with `idempotency_conflict`.",
        max_length=200,
        examples=["order-17"],
    ),
]
Prefer = Annotated[
    str | None,
    Header(
        alias="Prefer",
        description="`wait=30`: answer when the edit has ended, or after 30 seconds (60 at most). RFC 7240.",
        max_length=200,
        examples=["wait=30"],
    ),
]
LOCATION = {"Location": {"description": "The path of the edit.", "schema": {"type": "string"}}}


def accepted(*errors: Any) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route that submits an edit: it runs, or it has ended within `Prefer: wait`."""
    return {
        200: {"model": Edit, "description": "The edit has ended while the request waited.", "headers": LOCATION},
        202: {"description": "The edit is queued or runs.", "headers": LOCATION},
        **documented(*errors),
    }


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation in OpenAPI, from which generated clients make the names of their methods."""
    return route.endpoint.__name__


def href_of(request: Request) -> Href:
    """Return a function that returns the path of a route of an edit, wherever the router is mounted."""

    def href(name: str, edit_id: str) -> str:
        return str(request.url_for(f"{ROUTE_NAME}{name}", edit_id=edit_id).path)

    return href


async def owned_job(caller: Caller, edit_id: str) -> tuple[AsyncJobHandle, JobStatus]:
    """Return a job of the caller, and its status. Raises JobNotFound for the jobs of others."""
    job = caller.client.job(edit_id)
    return job, await job.status(queue=True)


async def submitted(request: Request, response: Response, job: AsyncJobHandle, prefer: str | None) -> Edit:
    """Return the answer to a request that submitted a job, after the time that it prefers to wait."""
    href = href_of(request)
    response.headers["Location"] = href("edit", job.id)
    response.status_code = 202
    seconds = wait_of(prefer)
    if seconds is None:
        return Edit.of(await job.status(queue=True), href)
    response.headers["Preference-Applied"] = f"wait={seconds}"
    status = await while_connected(request, status_within(job, seconds))
    if status.is_terminal:
        response.status_code = 200
    return Edit.of(status, href)
