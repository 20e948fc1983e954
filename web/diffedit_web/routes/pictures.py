"""The pictures of an edit: a link to the bucket, or the bytes."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from diffedit import Artifact, InvalidRequest, JobCancelled, JobExpired, JobFailed, JobStatus, State, StoreUnavailable
from diffedit.errors import ArtifactError
from diffedit.handle import raise_unless_succeeded
from diffedit.objects.links import attachment
from diffedit_web.access import Called, Caller
from diffedit_web.events import is_forming
from diffedit_web.problem_route import ProblemRoute
from diffedit_web.problems import NotFinished, documented
from diffedit_web.routes.common import OF_AN_EDIT, ROUTE_NAME, EditId, operation_id, owned_job

router = APIRouter(route_class=ProblemRoute, generate_unique_id_function=operation_id)

Slot = Literal["result", "mask", "original", "thumbnail"]
LINK_SECONDS = 600
"""For which a link is valid."""
KEPT = f"private, max-age={LINK_SECONDS // 2}"
"""A browser may keep the picture for so long, and nobody else: a deleted edit is not to be seen for days."""
SANDBOXED = {"Content-Security-Policy": "default-src 'none'; sandbox"}

Inline = Annotated[
    str | None,
    Query(description="If it is given, with any value or none, the answer is the picture and no link.", examples=["1"]),
]
Filename = Annotated[
    str | None,
    Query(max_length=150, description="A browser saves the picture under this name.", examples=["pears.png"]),
]
FAILED = (JobFailed, (422, JobFailed.code))
"""An edit that failed because of the service, or because of its request."""
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture: with `inline`, or if this server gives no links.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/png", "image/jpeg", "image/webp")
        },
    },
    303: {
        "description": f"A link to the picture, which anyone can open for {LINK_SECONDS} seconds.",
        "headers": {"Location": {"description": "The link.", "schema": {"type": "string", "format": "uri"}}},
    },
    304: {"description": "The caller has this picture (`If-None-Match`)."},
    **documented(
        *OF_AN_EDIT,
        NotFinished,
        JobCancelled,
        JobExpired,
        *FAILED,
        ArtifactError,
        StoreUnavailable,
    ),
}


def _route(slot: Slot, what: str) -> None:
    async def picture(
        request: Request, caller: Called, edit_id: EditId, inline: Inline = None, filename: Filename = None
    ) -> Response:
        return await _picture(request, caller, edit_id, slot, inline is not None, filename)

    picture.__name__, picture.__doc__ = f"get_{slot}", what
    path = f"/v1/edits/{{edit_id}}/{slot}"
    router.add_api_route(path, picture, methods=["HEAD"], response_class=Response, include_in_schema=False)
    router.add_api_route(
        path,
        picture,
        methods=["GET"],
        response_class=Response,
        responses=ANSWERS,
        name=f"{ROUTE_NAME}{slot}",
        summary=f"Get the {slot}",
    )


_route("result", "Get the edited picture, a PNG file, when the edit has succeeded.")
_route("mask", "Get the mask, white where the picture may change, as soon as it is found.")
_route(
    "original",
    "Get the file of the picture that was submitted, as it is stored: with a comment in it, the salt of the owner.",
)
_route("thumbnail", "Get a small copy of the edited picture, a WebP file, when the edit has succeeded.")


@router.head("/v1/edits/{edit_id}/preview", response_class=Response, include_in_schema=False)
@router.get(
    "/v1/edits/{edit_id}/preview",
    response_class=Response,
    responses={
        200: {
            "description": "A small picture of the edit as it forms.",
            "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
        },
        204: {"description": "There is none: no worker makes the picture now, or it has not made a preview yet."},
        **documented(*OF_AN_EDIT),
    },
    name=f"{ROUTE_NAME}preview",
)
async def get_preview(caller: Called, edit_id: EditId) -> Response:
    """Get a small picture of the edit as it forms, a WebP file.

    Ask every second or so. Workers make previews only while somebody asks.
    """
    job = caller.client.job(edit_id)
    preview = await job.preview() if is_forming(await job.status()) else None
    headers = {**SANDBOXED, "Cache-Control": "no-store"}
    if preview is None:
        return Response(status_code=204, headers=headers)
    return Response(preview, media_type="image/webp", headers=headers)


async def _picture(
    request: Request, caller: Caller, edit_id: str, slot: Slot, inline: bool, filename: str | None
) -> Response:
    job, status = await owned_job(caller, edit_id)
    _check_made(status, slot)
    varies = {"Vary": "Authorization, Cookie", "Cache-Control": KEPT}
    result = await job.result_so_far()
    if caller.links and not inline:
        url = await result.url(LINK_SECONDS, slot=slot, filename=filename)
        return RedirectResponse(url, 303, varies)
    etag = f'"{edit_id}-{slot}"'  # what an edit has made never changes
    headers = {**SANDBOXED, **varies, "ETag": etag}
    if _names(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    file = await result.file(slot)
    if filename is not None:
        headers["Content-Disposition"] = attachment(filename)
    return Response(file.data, media_type=file.content_type, headers=headers)


def _names(if_none_match: str, etag: str) -> bool:
    """Return whether the header `If-None-Match` names this tag: in a list, as weak, or as `*`."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags


def _check_made(status: JobStatus, slot: Slot) -> None:
    """Raise the error that says why the edit has no such picture, if it has none."""
    if slot == "original":
        return
    if slot == "mask" and (status.request.mask or Artifact.MASK in status.artifact_keys):
        return
    raise_unless_succeeded(status)
    if status.state is not State.SUCCEEDED:
        raise NotFinished(f"the {slot} is not made yet; the edit is {status.state.value}")
    if status.request.goal is Artifact.MASK and slot != "mask":
        raise InvalidRequest(f"this edit has no {slot}, because only the mask was asked for")
