"""What a batch will cost, before anything is submitted: which rows would be refused, samples of the UNet, seconds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from diffedit.batch.manifest import ManifestRow
from diffedit.client import Client
from diffedit.contract.request import EditRequest, random_seed
from diffedit.contract.stages import Artifact, Stage
from diffedit.contract.validation import digest
from diffedit.decoding import decoding_limits
from diffedit.errors import InvalidRequest
from diffedit.fleet import Fleet
from diffedit.many_jobs import PICTURES
from diffedit.submission import prepare
from diffedit.uploads import image_upload


@dataclass
class Cost:
    """The cost of some rows.

    Attributes:
        rows: those that would be submitted.
        refused: how many would be refused, and the first reasons.
        stages: how often each stage would be computed. What rows share is counted once.
        samples: passes of the UNet, each with one sample.
        seconds: of a worker, from what stages of the profile took before; None if one was never measured.
        workers: the live workers that could share them.
    """

    rows: int = 0
    refused: int = 0
    reasons: list[str] = field(default_factory=list)
    stages: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    seconds: float | None = 0.0
    workers: int = 0


MAX_REASONS = 10


def cost_of(client: Client, rows: Iterable[ManifestRow]) -> Cost:
    """Check each row as `Client.edit` does, its picture included, and add up what it needs. Nothing is submitted.

    Artifacts that exist already are not known here, so the real cost may be lower.
    """
    cost, seen, measured = Cost(), set[str](), dict[str, dict[str, float]]()
    check = _checker(client)
    for row in rows:
        try:
            request = check(row)
        except InvalidRequest as error:
            cost.refused += 1
            if len(cost.reasons) < MAX_REASONS:
                cost.reasons.append(f"row {row.position}: {error}")
            continue
        cost.rows += 1
        profile = request.params.profile
        if profile not in measured:
            measured[profile] = client._job_store.stage_seconds(profile)
        for stage in request.stages:
            shared = digest(_depends_on(request, stage))[:16]
            if shared not in seen:
                seen.add(shared)
                _add(cost, request, stage, measured[profile])
    cost.workers = len(client.health().workers)
    if cost.seconds is not None:
        cost.seconds = round(cost.seconds, 2)
    return cost


def _checker(client: Client) -> Callable[[ManifestRow], EditRequest]:
    """Return a function that checks a row and returns its request, with all defaults resolved."""
    fleet = Fleet(client._backend.worker_registry, client._settings.profile)
    seed = random_seed()

    def check(row: ManifestRow) -> EditRequest:
        given = {name: row.options[name] for name in PICTURES if name in row.options}
        options: Any = {name: value for name, value in row.options.items() if name not in PICTURES}
        uploaded = given.pop("uploaded", None)
        with decoding_limits(client._settings.max_pixels):
            picture = image_upload(client._given(next(iter(given.values()), None), uploaded, options))
            options = client._owned(options)
            return prepare(picture, Artifact.RESULT, options, fleet, seed, client._upload_of).request

    return check


def _add(cost: Cost, request: EditRequest, stage: Stage, measured: dict[str, float]) -> None:
    cost.stages[stage.value] = cost.stages.get(stage.value, 0) + 1
    cost.samples += samples_of(request, stage)
    seconds = measured.get(stage.value)
    cost.seconds = None if cost.seconds is None or seconds is None else cost.seconds + seconds


def samples_of(request: EditRequest, stage: Stage) -> int:
    """Return how many samples the UNet denoises in this stage. A step with guidance has two."""
    params = request.params
    steps = int(params.num_inference_steps * params.strength)
    if stage is Stage.MASK:
        return 2 * params.num_maps_per_mask
    if stage is Stage.INVERT:
        return steps * (2 if params.inversion_guidance_scale > 1 else 1)
    if stage is Stage.EDIT:
        guided = int(steps * params.guidance_interval) if params.guidance_scale > 1 else 0
        return steps + guided
    return 0


def _depends_on(request: EditRequest, stage: Stage) -> list[Any]:
    """Return what the artifacts of a stage depend on, as far as a client knows it."""
    params = request.params
    texts = [request.source_prompt, request.source_concept, request.caption]
    targets = [request.target_prompt, request.target_concept, request.negative_prompt]
    schedule = [params.scheduler, params.num_inference_steps]
    inversion = [params.strength, params.inversion_guidance_scale, params.inversion_feature_reuse]
    mask: list[Any] = [params.seed, params.num_maps_per_mask, params.mask_encode_strength]
    mask += [params.mask_thresholding_ratio, params.mask_cleanup]
    own: dict[Stage, list[Any]] = {
        Stage.CAPTION: [request.image],
        Stage.PROMPTS: [request.image, texts, targets, params.num_prompts, params.concept_prompts],
        Stage.EMBED: [None if request.given_prompts else request.image, texts, targets],
        Stage.MASK: [request.image, texts, targets, schedule, mask],
        Stage.INVERT: [request.image, request.given_caption, schedule, inversion],
        Stage.EDIT: [request.model_dump(mode="json")],
    }
    return [stage.value, params.profile, *own[stage]]
