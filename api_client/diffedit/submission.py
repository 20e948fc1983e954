"""From the arguments of `Client.edit` to a checked request. Everything that can be wrong with it is found here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from diffedit.contract.job import JobOptions
from diffedit.contract.presets import DEFAULT
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, queue_name
from diffedit.contract.validation import explain
from diffedit.errors import InvalidRequest
from diffedit.fleet import Fleet
from diffedit.idempotency import checked_key, request_digest
from diffedit.options import EditOptions
from diffedit.uploads import Upload, mask_upload

TEXTS = ("source_prompt", "target_prompt", "source_concept", "target_concept", "caption", "negative_prompt")
"""The options that are fields of the request itself."""
SERVICE = ("lane", "start_timeout", "deadline", "owner", "tags", "keep", "webhook")
"""The options that are fields of `JobOptions`. The others are fields of `EditParams`, but for the mask and the key."""

SET_BY_CLIENT = ("traceparent",)
"""The fields of `JobOptions` that are no options of an edit."""

UploadOf = Callable[[Upload, str | None], Upload]


@dataclass(frozen=True)
class Submission:
    """A checked request with all defaults resolved, and the pictures that it needs. Nothing is stored or queued yet.

    `pixels` are those of the picture. `request_digest` covers only what the user gave.
    """

    request: EditRequest
    options: JobOptions
    uploads: Sequence[Upload]
    pixels: int
    idempotency_key: str | None
    request_digest: str


def prepare(
    image: Upload, goal: Artifact, options: EditOptions, fleet: Fleet, default_seed: int, upload_of: UploadOf
) -> Submission:
    """Check the options and resolve all defaults. `upload_of` returns the upload of a picture for an owner.

    Raises:
        InvalidRequest: an option is unknown, out of its range, or contradicts another one. UnknownPreset: the preset.
        BadPicture: the mask.
    """
    given: dict[str, Any] = dict(options)
    key = checked_key(given.pop("idempotency_key", None))
    preset = _checked_preset(given.pop("preset", DEFAULT))
    mask = None if (picture := given.pop("mask", None)) is None else mask_upload(picture, image.size)
    pixels = image.size[0] * image.size[1]
    texts = {name: given.pop(name) for name in TEXTS if name in given}
    service = {name: given.pop(name) for name in SERVICE if name in given}
    try:
        profile = given.get("profile", fleet.default_profile)
        defaults = _used_defaults(fleet.params_of(profile, preset), texts)
        params = EditParams.resolve(profile, {"seed": default_seed, **defaults}, given)
        job_options = JobOptions.model_validate(service)
        uploads = [upload_of(upload, job_options.owner) for upload in (image, mask) if upload]
        pictures = dict(zip(("image", "mask"), (upload.key for upload in uploads), strict=False))
        request = EditRequest.model_validate({**texts, **pictures, "goal": goal, "params": params})
    except ValidationError as error:
        raise InvalidRequest(explain(error, known=EditOptions.__annotations__)) from None
    return Submission(request, job_options, uploads, pixels, key, request_digest(request, job_options, given, preset))


def attributes_of(job_id: str, request: EditRequest, options: JobOptions) -> dict[str, str | None]:
    """Return what the span of a submission says about the job."""
    about = {"job": job_id, "profile": request.params.profile, "lane": options.lane.value, "owner": options.owner}
    return {f"diffedit.{name}": value for name, value in about.items()}


def _checked_preset(preset: Any) -> str:
    if not isinstance(preset, str):
        raise InvalidRequest("preset: give the name of a preset, such as guide")
    return preset


def _used_defaults(defaults: Mapping[str, Any], texts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults without what only two concepts use, if there are none: the result does not depend on it."""
    unused = () if texts.get("source_concept") else ("concept_prompts",)
    return {name: value for name, value in defaults.items() if name not in unused}


def options_of_each(targets: Iterable[str | EditOptions], common: EditOptions) -> list[EditOptions]:
    """Return the options of several edits of one picture: those of all, and those in which one differs.

    Raises:
        InvalidRequest: a target is neither a prompt nor a dict of options, or all edits have the same idempotency key.
    """
    if "idempotency_key" in common:
        raise InvalidRequest("idempotency_key: the same key for all edits gives one job; give each edit its own")
    if isinstance(targets, str | Mapping) or not isinstance(targets, Iterable):
        raise InvalidRequest("targets: give a list of target prompts; for a single one use edit()")
    targets = list(targets)
    if not all(isinstance(target, str | Mapping) for target in targets):
        raise InvalidRequest("targets: each one must be a target prompt, or a dict of options")
    edits = [EditOptions(target_prompt=target) if isinstance(target, str) else target for target in targets]
    return [{**common, **each} for each in edits]


def check_keys(submissions: Sequence[Submission]) -> None:
    """Raise InvalidRequest if two of these submissions have the same idempotency key."""
    keys = [each.idempotency_key for each in submissions if each.idempotency_key]
    if len(set(keys)) < len(keys):
        raise InvalidRequest("idempotency_key: two edits have the same key; give each edit its own")


def no_worker_warnings(submissions: Iterable[Submission], fleet: Fleet) -> list[str]:
    """Return a text for each set of queues that a job needs and from which no live worker takes jobs."""
    unserved = dict.fromkeys(frozenset(_queues(each) - fleet.queues) for each in submissions)
    return [_no_worker_warning(queues, fleet) for queues in unserved if queues]


def _no_worker_warning(queues: frozenset[str], fleet: Fleet) -> str:
    names = ", ".join(sorted(queues))
    paused = [worker.name for worker in fleet.workers if worker.paused and not queues.isdisjoint(worker.queues)]
    if paused:
        return f"the workers of {names} are paused ({', '.join(paused)}), so the job waits; `diffedit health` tells why"
    served = ", ".join(sorted({worker.profile for worker in fleet.workers})) or "nothing"
    return f"no live worker reads {names}, so the job waits; now served: {served}"


def _queues(submission: Submission) -> set[str]:
    request = submission.request
    return {queue_name(request.params.profile, group, submission.options.lane) for group in request.groups}
