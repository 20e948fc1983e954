"""How far mask, trajectory and picture of half-precision models are from those of float32."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.edits import Settings, edit_once
from benchmarks.gpu.shapes import ShapedModel
from benchmarks.gpu.table import Row, Rows
from benchmarks.harness.baselines import edit_request, run_stages
from diffedit.contract.stages import Artifact
from diffedit.errors import NotFinite
from diffedit.pictures import read_picture
from diffedit_worker.diffusion.thresholding import threshold
from diffedit_worker.local.commands import PICTURE, SOURCE, TARGETS
from diffedit_worker.models.devices import limit_cpu_threads
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Artifacts:
    """What an edit makes.

    Attributes:
        mask: bool, of any shape.
        trajectory: (1, N + 1, 4, h, w).
        image: levels from 0 to 255.
    """

    mask: Tensor
    trajectory: Tensor
    image: Tensor


@dataclass(frozen=True)
class Drift:
    """How far one edit is from another.

    Attributes:
        mask: the share of its cells or pixels that differ.
        trajectory: the root mean square of the error, relative to that of the trajectory.
        largest, mean: of the picture's differences, in levels of 255.
    """

    mask: float
    trajectory: float
    largest: float
    mean: float

    @classmethod
    def between(cls, reference: Artifacts, other: Artifacts) -> Self:
        """Return the differences. NaN in `other` gives NaN."""
        error = (other.trajectory.float() - reference.trajectory.float()).square().mean().sqrt()
        levels = (other.image.float() - reference.image.float()).abs()
        return cls(
            mask=float((reference.mask != other.mask).float().mean()),
            trajectory=float(error / reference.trajectory.float().square().mean().sqrt()),
            largest=float(levels.max()),
            mean=float(levels.mean()),
        )


def bundled_rows(device: torch.device, preset: str, seeds: int = 8, **params: Any) -> Rows:
    """Compare edits with the bundled model, which is trained: the median of each difference over the seeds."""
    model, params = f"bundled, preset {preset}", {"preset": preset, **params}
    with exact_float32():
        reference = [_bundled_edit(device, "float32", seed, params) for seed in range(seeds)]
    for dtype in HALF:
        try:
            others = [_bundled_edit(device, dtype, seed, params) for seed in range(seeds)]
        except NotFinite:
            yield Row(model, "drift from float32", dtype, "not finite")
            continue
        drifts = [Drift.between(*pair) for pair in zip(reference, others, strict=True)]
        yield _drift_row(model, dtype, drifts)


def shaped_rows(model: ShapedModel, settings: Settings) -> Rows:
    """Compare an edit with random weights. They show the rounding, and not what a trained model makes of it."""
    with exact_float32():
        reference = _shaped_edit(model.with_dtypes(torch.float32, torch.float32), settings)
    for name, dtype in HALF.items():
        yield _drift_row(
            model.shape.name, name, [Drift.between(reference, _shaped_edit(model.with_dtypes(dtype), settings))]
        )


def _drift_row(model: str, dtype: str, drifts: Sequence[Drift]) -> Row:
    mask, trajectory, largest, mean = (
        statistics.median(values) for values in zip(*(astuple(drift) for drift in drifts), strict=True)
    )
    result = f"mask {100 * mask:.2f} %, trajectory {100 * trajectory:.3f} %"
    picture = f"picture {largest:.0f} of 255 at most, {mean:.3f} on average"
    return Row(
        model,
        "drift from float32",
        f"{dtype}, {len(drifts)} edit{'s' if len(drifts) > 1 else ''}",
        f"{result}, {picture}",
    )


def _bundled_edit(device: torch.device, dtype: str, seed: int, params: Mapping[str, Any]) -> Artifacts:
    models = _bundled_models(device, dtype)
    texts = {"source_prompt": SOURCE, "target_prompt": TARGETS[seed % len(TARGETS)]}
    request = edit_request(models.profile, {"seed": seed, **params}, **texts)
    values = run_stages(models, request, {Artifact.IMAGE: read_picture((SAMPLES / PICTURE).read_bytes())})
    picture, mask = (
        torch.from_numpy(np.array(image)) for image in (values[Artifact.RESULT].image, values[Artifact.MASK])
    )
    return Artifacts(mask, values[Artifact.TRAJECTORY]["latents"].cpu(), picture)


@cache
def _bundled_models(device: torch.device, dtype: str) -> Models:
    models = Models(load_profiles()["tiny"], device=str(device), dtype=dtype)
    limit_cpu_threads(models.profile, models.device)
    return models


@torch.no_grad()
def _shaped_edit(model: ShapedModel, settings: Settings) -> Artifacts:
    made = edit_once(model, model.denoiser, settings)
    levels = (made.image.float().clamp(-1, 1) + 1) * 127.5
    return Artifacts(threshold(made.difference_map, 3.0, cleanup=False).cpu(), made.trajectory.cpu(), levels.cpu())


@contextmanager
def exact_float32() -> Iterator[None]:
    """Let float32 mean float32. By default, convolutions on CUDA round their inputs to TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
