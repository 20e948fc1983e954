"""Time and UNet samples of mask + invert + edit in one process, against diffusers' pipeline on the same weights.

The presets of the bundled model's profile and the pipeline with its own defaults take turns in one run, so that their
ratios do not depend on the machine. `quality/speed_vs_quality.py` measures what the presets cost in quality.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.baselines import UNetSamples, count_unet_samples
from benchmarks.harness.midsize_model import make_midsize_model
from benchmarks.harness.results import ResultRow, measurement, seconds_of
from benchmarks.speed.comparison import Comparison
from diffedit_worker.models.profiles import load_profiles

REFERENCE = "reference"
TARGETS = {"guide": "0.72 or less", "default": "0.30 or less", "draft": "0.18 or less"}
"""The presets, with what each may take of the pipeline's time."""


def edit_time_bundled(runs: int = 5) -> Iterator[ResultRow]:
    """Compare the time and the UNet samples of an edit with the bundled model."""
    yield from _compare(Comparison(), "bundled model", runs)


def edit_time_midsize(runs: int = 2) -> Iterator[ResultRow]:
    """Compare the time and the UNet samples of an edit with the mid-size model."""
    with tempfile.TemporaryDirectory() as directory:
        yield from _compare(Comparison("midsize", make_midsize_model(Path(directory))), "mid-size model", runs)


def preset_params(preset: str) -> dict[str, Any]:
    """Return the parameters of a preset of the bundled model's profile, for any profile."""
    return {"preset": "guide", **load_profiles()["tiny"].params_of(preset)}


def _compare(comparison: Comparison, model: str, runs: int) -> Iterator[ResultRow]:
    # Warm up: load everything that is loaded on first use.
    comparison.edit_with_diffusers(steps=2)
    comparison.edit_with_stages(num_inference_steps=2)
    samples, times = _measure(comparison, runs)
    reference = measurement(statistics.median(times[REFERENCE]), "1.00 = {} s, 50 steps")
    for preset, target in TARGETS.items():
        pairs = zip(times[preset], times[REFERENCE], strict=True)
        ratio = measurement(statistics.median(ours / theirs for ours, theirs in pairs))
        ours, theirs = (str(samples[side]) for side in (preset, REFERENCE))
        limit = "140 or fewer" if preset == "guide" else ""
        yield ResultRow(f"UNet samples per edit, {preset}, {model}", ours, theirs, limit)
        yield ResultRow(f"time of mask + invert + edit, {preset}, {model}", ratio, reference, target=target)


def _measure(comparison: Comparison, runs: int) -> tuple[dict[str, UNetSamples], dict[str, list[float]]]:
    """Return the UNet samples and the times in seconds of each side."""
    sides: dict[str, Callable[[], None]] = {REFERENCE: comparison.edit_with_diffusers}
    for preset in TARGETS:
        sides[preset] = partial(comparison.edit_with_stages, **preset_params(preset))
    samples: dict[str, UNetSamples] = {}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(runs):
        for side, edit in sides.items():

            def counted(side: str = side, edit: Callable[[], None] = edit) -> None:
                samples[side] = count_unet_samples(comparison.models.unet, edit)

            times[side].append(seconds_of(counted))
    return samples, times
