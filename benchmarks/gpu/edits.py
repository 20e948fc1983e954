"""Edits per hour: of jobs that share passes, and of diffusers' pipeline in a loop."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu.graphs import BucketedUNet, GraphedUNet
from benchmarks.gpu.shapes import ShapedModel
from benchmarks.gpu.table import NO_MEMORY, Row, Rows
from benchmarks.gpu.timing import Deadline, PeakMemory, synchronize, unless_out_of_memory
from benchmarks.harness.baselines import diffusers_pipeline
from benchmarks.harness.concurrency import seconds_of_calls
from benchmarks.harness.pass_times import EditCost, PassTimes, allowed_rate, max_samples
from benchmarks.harness.results import seconds_of
from diffedit_worker.diffusion import diffedit
from diffedit_worker.diffusion.batching import SharedDenoiser
from diffedit_worker.diffusion.denoiser import Denoiser

LARGEST_PASS = 32
"""The most samples in a pass that jobs share, however many they are."""


@dataclass(frozen=True)
class Settings:
    """How an edit is made; the guide's values by default.

    Attributes:
        invert, edit: further arguments of `diffedit.invert` and `diffedit.edit`.
    """

    name: str = "guide"
    scheduler: str = "ddim"
    num_inference_steps: int = 50
    num_maps_per_mask: int = 10
    invert: Mapping[str, Any] = field(default_factory=dict)
    edit: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reuses_features(self) -> bool:
        return any(stage.get("feature_reuse", 1) > 1 for stage in (self.invert, self.edit))


SETTINGS = (
    Settings(),
    Settings(
        "guidance in 60 % of the steps, features for 3 steps",
        invert={"feature_reuse": 3},
        edit={"guidance_interval": 0.6, "feature_reuse": 3},
    ),
    Settings("DPM-Solver++ 20", "dpmsolver++", 20),
    Settings(
        "DPM-Solver++ 25, guidance in 60 % of the steps, features for 2 and 3 steps",
        "dpmsolver++",
        25,
        invert={"feature_reuse": 2},
        edit={"guidance_interval": 0.6, "feature_reuse": 3},
    ),
)


class Edited(NamedTuple):
    """What an edit makes: the difference map (1, h, w), the trajectory, and the picture (1, 3, size, size)."""

    difference_map: Tensor
    trajectory: Tensor
    image: Tensor


@torch.no_grad()
def edit_once(model: ShapedModel, denoiser: Denoiser, settings: Settings, seed: int = 0) -> Edited:
    """Edit a picture by our algorithm, from pixels to pixels.

    The mask is on everywhere, because that of random weights may be empty. The difference map is computed all the same.
    """
    steps: dict[str, Any] = {"num_inference_steps": settings.num_inference_steps}
    scheduler, inverse = model.scheduler(settings.scheduler), model.inverse_scheduler(settings.scheduler)
    source, target, negative = (model.text(10 * seed + number) for number in range(3))
    z0 = diffedit.encode(model.vae, (2 * model.picture() - 1).to(model.vae_dtype)).to(model.dtype)
    shape = (1, settings.num_maps_per_mask, *z0.shape[1:])
    noise = diffedit.draw_noise(shape, seed, device=model.device, dtype=model.dtype)
    D = diffedit.difference_map(denoiser, scheduler, z0, source, target, noise, **steps)
    mask = torch.ones(1, *z0.shape[-2:], dtype=torch.bool, device=model.device)
    trajectory = diffedit.invert(denoiser, inverse, z0, source, **steps, **settings.invert)
    latents = diffedit.edit(denoiser, scheduler, trajectory, mask, target, negative=negative, **steps, **settings.edit)
    image = diffedit.decode(model.vae, latents.to(model.vae_dtype))
    synchronize(model.device)
    return Edited(D, trajectory, image)


def edit_upstream(pipeline: Any, model: ShapedModel, settings: Settings) -> None:
    """Edit a picture by diffusers' pipeline, with its defaults, from pixels to pixels."""
    source, target, negative = (model.text(number) for number in range(3))
    steps: dict[str, Any] = {"num_inference_steps": settings.num_inference_steps}
    picture = model.picture().to(model.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mask = pipeline.generate_mask(
            picture,
            source_prompt_embeds=source,
            source_negative_prompt_embeds=negative,
            target_prompt_embeds=target,
            target_negative_prompt_embeds=negative,
            num_maps_per_mask=settings.num_maps_per_mask,
            **steps,
        )
        texts = {"negative_prompt_embeds": negative, **steps}
        latents = pipeline.invert(prompt_embeds=source, image=picture, **texts).latents
        pipeline(prompt_embeds=target, mask_image=mask, image_latents=latents, output_type="pt", **texts)
    synchronize(model.device)


@dataclass(frozen=True)
class Run:
    """Some jobs that made one edit each at the same time.

    Attributes:
        seconds: how long all of them took.
        cost: what one edit asked of the UNet.
        samples_per_pass: the mean over the passes, which the jobs shared.
        gigabytes: the peak of the device's memory; 0 if it is unknown.
    """

    jobs: int
    seconds: float
    cost: EditCost
    samples_per_pass: float
    gigabytes: float

    @property
    def per_hour(self) -> float:
        return 3600 * self.jobs / self.seconds


def edit_rows(
    model: ShapedModel,
    settings: Sequence[Settings],
    jobs: Sequence[int],
    deadline: Deadline,
    *,
    upstream: bool,
    times: PassTimes | None = None,
) -> Rows:
    """Measure edits per hour; against diffusers' pipeline if `upstream`, and against what the pass times allow.

    The pipeline makes its edits with the first of the settings. What would not end before the deadline is left out.
    """
    reference = _upstream_per_hour(model, settings[0]) if upstream else None
    if upstream:
        result = f"{reference:.0f}" if reference else NO_MEMORY
        yield Row(model.label, "edits per hour", "diffusers' pipeline in a loop, its defaults", result)
    for setting in settings:
        # A shallow pass has another time, which was not fitted.
        known = times if not setting.reuses_features else None
        yield from _job_rows(model, setting, setting.name, model.denoiser, jobs, deadline, reference, known)


def graphed_edit_rows(
    model: ShapedModel, settings: Settings, jobs: Sequence[int], sizes: Sequence[int], deadline: Deadline
) -> Rows:
    """Measure edits per hour with passes that are CUDA graphs. Only on CUDA.

    `torch.compile(mode="reduce-overhead")` is not measured here: it keeps its graphs for each thread, and the passes of
    shared jobs run in any of their threads.
    """
    denoiser = FullPassDenoiser(BucketedUNet(GraphedUNet(model.unet), sizes))
    # A capture fails if another thread reserves memory meanwhile.
    for size in sizes:
        denoiser(*model.inputs(size))
    yield from _job_rows(model, settings, f"{settings.name}, CUDA graphs", denoiser, jobs, deadline)


def _job_rows(
    model: ShapedModel,
    settings: Settings,
    name: str,
    denoiser: Denoiser,
    jobs: Sequence[int],
    deadline: Deadline,
    reference: float | None = None,
    times: PassTimes | None = None,
) -> Rows:
    lone: Run | None = None
    for count in jobs:
        if lone and 1.2 * count * lone.seconds > deadline.left:
            continue
        setting = f"{name}, {count} job{'s' if count > 1 else ''}"
        run = unless_out_of_memory(partial(run_jobs, model, settings, denoiser, count))
        if run is None:
            yield Row(model.label, "edits per hour", setting, NO_MEMORY)
            continue
        lone = lone or (run if count == 1 else None)
        yield Row(model.label, "edits per hour", setting, _result_of(run), _ratios_of(run, reference, lone, times))


def _result_of(run: Run) -> str:
    memory = f", peak memory {run.gigabytes:.2f} GB" if run.gigabytes else ""
    return f"{run.per_hour:.0f} ({run.samples_per_pass:.1f} samples a pass{memory})"


def _ratios_of(run: Run, reference: float | None, lone: Run | None, times: PassTimes | None) -> str:
    allowed = 3600 * allowed_rate(times, run.cost, run.jobs, _limit(run.jobs)) if times else None
    others = {
        "diffusers": reference,
        "one job": lone.per_hour if lone and run is not lone else None,
        "what pass times allow": allowed,
    }
    return ", ".join(f"{run.per_hour / other:.2f} of {name}" for name, other in others.items() if other)


def run_jobs(model: ShapedModel, settings: Settings, denoiser: Denoiser, jobs: int) -> Run:
    """Let `jobs` jobs make one edit each, at the same time, with passes that they share."""
    edit_once(model, denoiser, replace(settings, num_inference_steps=4))
    shared, peak = SharedDenoiser(denoiser, _limit(jobs)), PeakMemory(model.device)
    seconds = seconds_of_calls(lambda number: edit_once(model, shared, settings, seed=number), jobs, at_once=jobs)
    counts = shared.counts
    return Run(
        jobs,
        seconds,
        EditCost(counts.requests // jobs, counts.samples // jobs),
        counts.samples / counts.passes,
        peak.gigabytes,
    )


def _limit(jobs: int) -> int:
    return min(LARGEST_PASS, max_samples(jobs))


def _upstream_per_hour(model: ShapedModel, settings: Settings) -> float | None:
    # The pipeline wants one number type for all its parts.
    model = model.with_dtypes(model.dtype, model.dtype)
    pipeline = diffusers_pipeline(model)

    def run() -> float:
        edit_upstream(pipeline, model, replace(settings, num_inference_steps=4))
        return 3600 / seconds_of(lambda: edit_upstream(pipeline, model, settings))

    return unless_out_of_memory(run)


class FullPassDenoiser:
    """A `Denoiser` over a function that is called as a UNet is. It has no features, so no shallow passes."""

    def __init__(self, unet: Callable[..., tuple[Tensor, ...]]) -> None:
        self._unet = unet

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if features is not None:
            raise ValueError("this denoiser has no shallow passes; use settings without feature reuse")
        return self._unet(x, t, encoder_hidden_states=cond, return_dict=False)[0], x.new_empty(len(x), 0, 1, 1)
