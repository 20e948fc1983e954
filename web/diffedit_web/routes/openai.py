"""OpenAI's image API: `POST /v1/images/edits`, as its official clients call it."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diffedit import AsyncJobHandle, DiffEditError, EditOptions, InvalidRequest
from diffedit.contract.request import random_seed
from diffedit.contract.validation import digest, explain
from diffedit_web.access import Called, Caller
from diffedit_web.bodies import Body, read_form
from diffedit_web.fields import options_of
from diffedit_web.models import Answer
from diffedit_web.openai_errors import ERROR_SCHEMA, OpenAIRoute
from diffedit_web.openai_images import FORMATS, check_proportions, drawn_mask, encoded, size_of
from diffedit_web.problems import refused
from diffedit_web.routes.common import ROUTE_NAME, IdempotencyKey, operation_id
from diffedit_web.waiting import while_connected

router = APIRouter(route_class=OpenAIRoute, generate_unique_id_function=operation_id)

WAIT = 600.0
"""Seconds for which the edits are awaited: as long as OpenAI's client waits for an answer by default."""
LINK_SECONDS = 3600
"""For which a link to a result is valid, as OpenAI's."""
MAX_EDITS = 10
FILES = {"image": "image", "image[]": "image", "mask": "mask"}
"""A client that is given a list sends `image[]`."""
OWN = ("prompt", "model", "n", "size", "response_format", "output_format", "output_compression")
IGNORED = ("background", "input_fidelity", "moderation", "quality", "user", "safety_identifier", "partial_images")
"""Fields of OpenAI's models that have no meaning here. Clients send them, so they are no error."""


class OpenAIImage(Answer):
    """An edited picture."""

    b64_json: str | None = None
    """The file of the picture in Base64, unless `response_format` is "url"."""
    url: str | None = None
    """With `response_format` "url": a link that anyone can open for an hour."""
    edit: str
    """The id of the edit. `GET /v1/edits/{id}` shows more of it."""
    seed: int
    """The seed with which it was made."""


class OpenAIImages(Answer):
    """The edited pictures."""

    created: int
    """When they were made, in seconds since 1970."""
    data: list[OpenAIImage]
    """One for each of the `n` edits."""
    output_format: Literal["png", "jpeg", "webp"]
    """The format of the files."""


class _Asked(BaseModel):
    """The fields of OpenAI's API that have a meaning here."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=1000)
    model: str | None = None
    n: int = Field(default=1, ge=1, le=MAX_EDITS)
    size: str = "auto"
    response_format: Literal["url", "b64_json"] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    output_compression: int = Field(default=100, ge=0, le=100)


FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "prompt"],
                    "properties": {
                        "image": {"type": "string", "format": "binary", "description": "The picture."},
                        "mask": {
                            "type": "string",
                            "format": "binary",
                            "description": "A PNG of the same size, transparent where the picture may change; or, "
                            "without transparency, white there.",
                        },
                        "prompt": {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": 1000,
                            "description": "What the picture should show: `target_prompt`, or `target_concept` if "
                            "`source_concept` is given.",
                        },
                        "model": {"type": "string", "description": "A profile, as `GET /v1/models` lists them."},
                        "n": {"type": "integer", "minimum": 1, "maximum": MAX_EDITS, "default": 1},
                        "size": {
                            "type": "string",
                            "default": "auto",
                            "description": '"auto", the size of the picture; or WIDTHxHEIGHT of the same proportions.',
                        },
                        "response_format": {"enum": ["b64_json", "url"], "default": "b64_json"},
                        "output_format": {"enum": list(FORMATS), "default": "png"},
                        "output_compression": {"type": "integer", "minimum": 0, "maximum": 100, "default": 100},
                    },
                    "additionalProperties": {
                        "description": "The options of `EditForm`, such as `source_prompt` and `seed`: `extra_body` of "
                        "OpenAI's clients.",
                    },
                }
            }
        },
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR_SCHEMA}}}
    for status, text in {
        400: "A field is not valid.",
        401: "There is no such API key.",
        403: "The request comes from a page of another site, or exceeds a limit of its owner.",
        404: "No live worker serves this model.",
        408: "The body took too long.",
        409: "The edit was cancelled, or another request has this idempotency key.",
        413: "The body is too large.",
        415: "The body is no form.",
        422: "The edit failed because of its request.",
        429: "Too many requests, or too many jobs wait.",
        500: "The edit failed.",
        503: "A service does not answer.",
        504: "The edits have not ended in time. They go on.",
    }.items()
}


@router.post(
    "/v1/images/edits",
    responses=ANSWERS,
    openapi_extra=FORM,
    name=f"{ROUTE_NAME}openai_edit",
    response_model_exclude_none=True,
)
async def edit_images(request: Request, caller: Called, idempotency_key: IdempotencyKey = None) -> OpenAIImages:
    """Edit a picture as with OpenAI's API, and wait for the result.

    `openai.OpenAI(base_url=".../v1", api_key=KEY).images.edit(...)` calls this. If the caller goes, the edit is
    cancelled, unless it has an idempotency key.
    """
    async with read_form(request, FILES) as body:
        asked, options = _asked(body)
        size = size_of(asked.size)
        if asked.response_format == "url" and (size or asked.output_format != "png" or not caller.links):
            raise InvalidRequest("response_format: a link leads to the stored PNG file; ask for b64_json")
        jobs = await _submitted(caller, body, asked, size, options, idempotency_key)
    async with _cancelled_unless_done(jobs, keep=idempotency_key is not None):
        data = await while_connected(request, asyncio.gather(*(_image(job, asked, size) for job in jobs)))
    return OpenAIImages(created=int(time.time()), data=data, output_format=asked.output_format)


def _asked(body: Body) -> tuple[_Asked, dict[str, Any]]:
    """Return the fields of OpenAI's API, and the options of an edit that the others are. Raises InvalidRequest."""
    if body.values.get("stream", "false") not in ("false", ""):
        raise InvalidRequest("stream: this server sends no partial images; leave it out, or follow the edit's events")
    given = {name: value for name, value in body.values.items() if name not in ("stream", *IGNORED)}
    try:
        # A client that is given None may send an empty field.
        asked = _Asked.model_validate({name: given.pop(name) for name in OWN if given.get(name)})
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None
    options = options_of(Body({name: value for name, value in given.items() if name not in OWN}, is_form=True))
    target = "target_concept" if "source_concept" in options else "target_prompt"
    for name in ("target_prompt", "target_concept", "profile"):
        if name in options:
            raise InvalidRequest(f"{name}: this is the field {'model' if name == 'profile' else 'prompt'} here")
    return asked, {**options, target: asked.prompt}


async def _submitted(
    caller: Caller,
    body: Body,
    asked: _Asked,
    size: tuple[int, int] | None,
    options: dict[str, Any],
    idempotency_key: str | None,
) -> list[AsyncJobHandle]:
    """Check what the client does not know of, and queue an edit for each of the pictures that are asked for."""
    if "image" not in body.files:
        raise InvalidRequest("image: the picture is missing")
    if size:
        await asyncio.to_thread(check_proportions, body.files["image"], size)
    if asked.model:
        await _check_model(caller, asked.model)
        options["profile"] = asked.model
    if "mask" in body.files:
        options["mask"] = await asyncio.to_thread(drawn_mask, body.files["mask"])
    seeds = _seeds(options.pop("seed", None), asked.n, idempotency_key)
    targets = [
        EditOptions(seed=seed, idempotency_key=idempotency_key and f"{idempotency_key} #{number}")
        for number, seed in enumerate(seeds, start=1)
    ]
    try:
        return await caller.client.edit_many(body.files["image"], targets, **options)
    except DiffEditError as error:
        if idempotency_key is None:
            await _cancel([caller.client.job(job_id) for job_id in error.queued])
        raise


def _seeds(given: int | None, number: int, idempotency_key: str | None) -> list[int]:
    """Return a seed for each edit: one after the other, from the given one on, else from one drawn at random.

    A repeated request must ask for the same, so that an idempotency key takes the place of chance.
    """
    drawn = int(digest(idempotency_key)[:8], 16) if idempotency_key else random_seed()
    first = drawn if given is None else given
    return [(first + each) % 2**32 for each in range(number)]


async def _check_model(caller: Caller, model: str) -> None:
    workers = (await caller.client.health()).workers
    if model not in {worker.profile for worker in workers}:
        raise refused(404, "model: no live worker serves it; GET /v1/models lists what is served")


async def _image(job: AsyncJobHandle, asked: _Asked, size: tuple[int, int] | None) -> OpenAIImage:
    result = await job.result(timeout=WAIT)
    seed = result.status.request.params.seed
    if asked.response_format == "url":
        return OpenAIImage(url=await result.url(LINK_SECONDS), edit=job.id, seed=seed)
    png = (await result.file()).data
    data = await asyncio.to_thread(encoded, png, size, asked.output_format, asked.output_compression)
    return OpenAIImage(b64_json=base64.b64encode(data).decode(), edit=job.id, seed=seed)


@contextlib.asynccontextmanager
async def _cancelled_unless_done(jobs: Sequence[AsyncJobHandle], *, keep: bool) -> AsyncIterator[None]:
    """Cancel the jobs if the answer cannot be given, because nobody knows their ids.

    With `keep` they go on: a repeated request finds them.
    """
    try:
        yield
    except BaseException:
        if not keep:
            await _cancel(jobs)
        raise


async def _cancel(jobs: Sequence[AsyncJobHandle]) -> None:
    await asyncio.shield(asyncio.gather(*(job.cancel() for job in jobs), return_exceptions=True))
