"""Time and UNet samples of mask + invert + edit in one process, against diffusers' pipeline on the same weights.

Both sides use their own defaults and take turns in one run, so that their ratio does not depend on the machine.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness.baselines import count_unet_samples
from benchmarks.harness.midsize_model import make_midsize_model
from benchmarks.harness.results import Measurement, ResultRow, measurement, seconds_of
from benchmarks.speed.comparison import Comparison

FAST: dict[str, Any] = {"scheduler": "dpmsolver++", "num_inference_steps": 20}


def edit_time_bundled(runs: int = 5) -> Iterator[ResultRow]:
    """Compare the time and the UNet samples of an edit with the bundled model."""
    yield from _compare(Comparison(), "bundled model", runs)


def edit_time_midsize(runs: int = 2) -> Iterator[ResultRow]:
    """Compare the time and the UNet samples of an edit with the mid-size model."""
    with tempfile.TemporaryDirectory() as directory:
        yield from _compare(Comparison("midsize", make_midsize_model(Path(directory))), "mid-size model", runs)


def _compare(comparison: Comparison, model: str, runs: int) -> Iterator[ResultRow]:
    # Warm up: load everything that is loaded on first use.
    comparison.edit_with_diffusers(steps=2)
    comparison.edit_with_stages(num_inference_steps=2)
    samples, times = _measure(comparison, runs)
    reference = measurement(statistics.median(times["reference"]), "1.00 = {} s, 50 steps")

    def ratio(side: str) -> Measurement:
        pairs = zip(times[side], times["reference"], strict=True)
        return measurement(statistics.median(ours / theirs for ours, theirs in pairs))

    counts = {side: f"{total}, largest batch {largest}" for side, (total, largest) in samples.items()}
    yield ResultRow(f"UNet samples per edit, {model}", counts["ours"], counts["reference"], target="140 or fewer")
    yield ResultRow(f"time of mask + invert + edit, {model}", ratio("ours"), reference, target="0.72 or less")
    fast = f"time of mask + invert + edit with dpmsolver++ at 20 steps, {samples['fast'][0]} UNet samples, {model}"
    yield ResultRow(fast, ratio("fast"), reference, target="0.40 or less")


def _measure(comparison: Comparison, runs: int) -> tuple[dict[str, tuple[int, int]], dict[str, list[float]]]:
    """Return the UNet samples (total, largest batch) and the times in seconds of each side."""
    sides: dict[str, Callable[[], None]] = {
        "reference": comparison.edit_with_diffusers,
        "ours": comparison.edit_with_stages,
        "fast": lambda: comparison.edit_with_stages(**FAST),
    }
    samples: dict[str, tuple[int, int]] = {}
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(runs):
        for side, edit in sides.items():

            def counted(side: str = side, edit: Callable[[], None] = edit) -> None:
                samples[side] = count_unet_samples(comparison.models.unet, edit)

            times[side].append(seconds_of(counted))
    return samples, times
