"""What the API answers with. A status shows no worker, no key of an object and no host."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from diffedit import MAX_PICTURE_BYTES, Artifact, JobStatus, Lane, Stage, State
from diffedit.errors import JobFailed

Href = Callable[[str, str], str]
"""Returns the path of a route ("result") of an edit (its id)."""


class Answer(BaseModel):
    """The base of all answers. A field's docstring is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True)


class EditError(Answer):
    """Why an edit failed."""

    code: str
    """The code of the error, for programs, such as "empty_mask"."""
    detail: str
    """What went wrong, for people."""
    stage: str | None
    """The stage that failed, if one was running."""


class Texts(Answer):
    """The texts of an edit, as they were given."""

    source_prompt: str | None
    target_prompt: str | None
    source_concept: str | None
    target_concept: str | None
    caption: str | None
    negative_prompt: str | None


class WebhookDelivery(Answer):
    """What became of an event that is sent to the webhook of an edit."""

    event: str
    """"edit.started", "edit.succeeded", "edit.failed", "edit.cancelled" or "edit.expired"."""
    state: Literal["pending", "delivered", "given_up"]
    """"pending" until it is delivered, or given up after a day."""
    attempts: int
    """How often sending was begun."""
    at: datetime
    """When it was delivered or given up; while it is pending, when it is sent next."""
    error: str | None
    """Why the last attempt failed."""


class Links(Answer):
    """Paths of what belongs to an edit."""

    self: str
    events: str
    original: str
    mask: str
    result: str | None
    """None if only the mask was asked for."""
    thumbnail: str | None
    preview: str | None


class Edit(Answer):
    """An edit at one moment."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "5f0c54d2a2f44d0f9a1b2c3d4e5f6071",
                "state": "running",
                "goal": "result",
                "stages": ["embed", "mask", "invert", "edit"],
                "stage": "invert",
                "step": 12,
                "steps": 45,
                "progress": 0.41,
                "position": None,
                "eta": 3.5,
                "timings": {"embed": 0.05, "mask": 0.8},
                "error": None,
                "texts": {
                    "source_prompt": "a bowl of fruits",
                    "target_prompt": "a bowl of pears",
                    "source_concept": None,
                    "target_concept": None,
                    "caption": None,
                    "negative_prompt": None,
                },
                "params": {"profile": "sd21", "seed": 7, "strength": 0.8},
                "lane": "interactive",
                "tags": {"album": "9"},
                "created_at": "2026-11-29T08:00:00Z",
                "started_at": "2026-11-29T08:00:01Z",
                "finished_at": None,
                "expires_at": None,
                "webhook": None,
                "deliveries": [],
                "links": {
                    "self": "/v1/edits/5f0c54d2a2f44d0f9a1b2c3d4e5f6071",
                    "events": "/v1/edits/5f0c54d2a2f44d0f9a1b2c3d4e5f6071/events",
                    "original": "/v1/edits/5f0c54d2a2f44d0f9a1b2c3d4e5f6071/original",
                    "mask": "/v1/edits/5f0c54d2a2f44d0f9a1b2c3d4e5f6071/mask",
                    "result": "/v1/edits/5f0c54d2a2f44d0f9a1b2c3d4e5f6071/result",
                    "thumbnail": "/v1/edits/5f0c54d2a2f44d0f9a1b2c3d4e5f6071/thumbnail",
                    "preview": "/v1/edits/5f0c54d2a2f44d0f9a1b2c3d4e5f6071/preview",
                },
            }
        }
    )

    id: str
    """32 hex digits."""
    state: State
    """"queued", "running", or how it ended: "succeeded", "failed", "cancelled" or "expired"."""
    goal: Literal["result", "mask"]
    """What the edit makes last; "mask" after `POST /v1/masks`."""
    stages: tuple[str, ...]
    """The stages of the edit, in running order."""
    stage: str | None
    """The last stage that was started; null if none was."""
    step: int
    """The steps that are done in the current stage."""
    steps: int
    """All steps of the current stage; 0 before the first one is reported."""
    progress: float
    """Progress over all stages, 0 to 1."""
    position: int | None
    """While it is queued: how many jobs are ahead, if that is known."""
    eta: float | None
    """Seconds until it is done, estimated from earlier edits, whatever number of steps they had; null: not known."""
    timings: dict[str, float]
    """Seconds of each finished stage."""
    error: EditError | None
    """Why it failed; null if it did not."""
    texts: Texts
    """The texts, as they were given."""
    params: dict[str, Any]
    """The parameters, with all defaults resolved, the seed included."""
    lane: Lane
    """"interactive" or "batch"."""
    tags: dict[str, str]
    """Its labels."""
    created_at: datetime
    """When it was submitted."""
    started_at: datetime | None
    """When its first stage started."""
    finished_at: datetime | None
    """When it ended."""
    expires_at: datetime | None
    """When it expires if nothing happens before."""
    webhook: str | None
    """Where its events are sent."""
    deliveries: list[WebhookDelivery]
    """What became of its events."""
    links: Links
    """Paths of what belongs to it."""

    @classmethod
    def of(cls, status: JobStatus, href: Href) -> "Edit":
        """Return what the owner of a job may see of its status. `href` returns paths."""
        request, is_mask = status.request, status.request.goal is Artifact.MASK
        names = ("events", "original", "mask", "result", "thumbnail", "preview")
        paths = {name: href(name, status.id) for name in names}
        if is_mask:
            paths |= {"result": None, "thumbnail": None, "preview": None}  # type: ignore[dict-item]
        return cls(
            id=status.id,
            state=status.state,
            goal="mask" if is_mask else "result",
            stages=_names(status.stages),
            stage=status.stage and status.stage.value,
            step=status.steps if status.state is State.SUCCEEDED else status.step,
            steps=status.steps,
            progress=round(status.progress, 4),
            position=status.position,
            eta=status.eta,
            timings={stage.value: seconds for stage, seconds in status.timings.items()},
            error=_error_of(status),
            texts=Texts.model_validate(request.model_dump(include=set(Texts.model_fields))),
            params=request.params.model_dump(mode="json"),
            lane=status.options.lane,
            tags=status.tags,
            created_at=status.created_at,
            started_at=status.started_at,
            finished_at=status.finished_at,
            expires_at=status.expires_at,
            webhook=status.options.webhook,
            deliveries=[WebhookDelivery(**each.model_dump()) for each in status.deliveries],
            links=Links(self=href("edit", status.id), **paths),
        )


class EditPage(Answer):
    """Some edits, the newest first."""

    data: list[Edit]
    """The edits of this page."""
    next_cursor: str | None
    """The `cursor` of the next page; null if there is none."""


class UploadRequest(BaseModel):
    """The file that will be uploaded."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", strict=True)

    content_type: Literal["image/png", "image/jpeg", "image/webp"]
    """The content type of the file."""
    size: int = Field(ge=1, le=MAX_PICTURE_BYTES, examples=[2_400_000])
    """The bytes of the file. The server takes no other size."""


class Upload(Answer):
    """A request with which a picture is sent straight to the bucket.

    With the method "PUT", the body is the file. With "POST", it is a form: all `fields`, then the file as "file".
    """

    key: str
    """What `uploaded` of `POST /v1/edits` takes afterwards."""
    method: Literal["PUT", "POST"]
    """The HTTP method of the request."""
    url: str
    """Where to send it."""
    headers: dict[str, str]
    """Its headers."""
    fields: dict[str, str]
    """The fields of the form; none with "PUT"."""
    size: int
    """The bytes of the file."""
    expires_at: datetime
    """When the request must have arrived."""


class Model(Answer):
    """A model profile that live workers serve, in the form of OpenAI's API."""

    id: str
    """The name of the profile: the parameter `profile` of an edit, and `model` of OpenAI's API."""
    object: Literal["model"] = "model"
    created: int = 0
    """Always 0: a profile has no date."""
    owned_by: Literal["diffedit"] = "diffedit"
    about: str
    """What the models know, for people; "" if the profile does not say."""
    presets: list[str]
    """The presets that an edit may name."""
    defaults: dict[str, Any]
    """The parameters in which the profile differs from the guide's."""


class Models(Answer):
    """The model profiles that live workers serve, in the form of OpenAI's API."""

    object: Literal["list"] = "list"
    data: list[Model]


class HealthReport(Answer):
    """Whether an edit that is submitted now can run."""

    status: Literal["ok", "degraded", "down"]
    """"ok"; "degraded" if edits are accepted but may wait for a worker; "down" if none is accepted."""
    broker: bool
    """Whether Redis answers."""
    object_store: bool
    """Whether S3 answers."""
    workers: int
    """Live workers that take jobs."""
    waiting: int
    """Messages that wait in queues."""


def _names(stages: tuple[Stage, ...]) -> tuple[str, ...]:
    return tuple(stage.value for stage in stages)


def _error_of(status: JobStatus) -> EditError | None:
    """Return the error of a failed job with its public message: the other one may name hosts and settings."""
    if status.state is not State.FAILED:
        return None
    error = status.error
    stage = error.stage.value if error and error.stage else None
    failed = JobFailed(
        status.id,
        stage=stage,
        error_code=error.code if error else "unknown",
        message=error.message if error else "",
    )
    return EditError(code=failed.error_code, detail=failed.public_message, stage=stage)
