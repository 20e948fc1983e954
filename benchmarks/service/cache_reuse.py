"""The time of a second edit of the same picture, which reuses the inversion of the first."""

import os
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.harness.baselines import DiffusersBaseline
from benchmarks.harness.environment import midsize_environment
from benchmarks.harness.results import ResultRow, measurement, seconds_of
from diffedit.pictures import read_picture
from diffedit_worker.local.commands import PICTURE, SOURCE, TARGETS
from diffedit_worker.models.profiles import SAMPLES

STEPS = 20


def cache_reuse() -> Iterator[ResultRow]:
    """Compare a second edit with a new target against diffusers' whole edit, and against our own first edit.

    Ours goes through the queue. Diffusers' pipeline runs in this process and can reuse nothing.
    """
    with midsize_environment("diffedit_worker.app") as (env, models):
        picture = (SAMPLES / PICTURE).read_bytes()
        resized = read_picture(picture).image.convert("RGB").resize((models.size, models.size))
        baseline = DiffusersBaseline(models)
        # Warm up: load everything that is loaded on first use.
        baseline.edit(resized, SOURCE, TARGETS[0], steps=2)
        # The worker has as many, as its profile says.
        assert torch.get_num_threads() == os.cpu_count()

        arguments: dict[str, Any] = {"source_prompt": SOURCE, "num_inference_steps": STEPS, "seed": 0}
        first = env.time_edit(picture, **arguments, target_prompt=TARGETS[0])
        reference = seconds_of(lambda: baseline.edit(resized, SOURCE, TARGETS[1], steps=STEPS))
        second = env.time_edit(picture, **arguments, target_prompt=TARGETS[1])
    yield ResultRow(
        f"second edit of a picture, new target, through the queue, mid-size model at {STEPS} steps",
        measurement(second / reference),
        measurement(reference, "1.00 = {} s, in process"),
        target="0.55 or less",
    )
    yield ResultRow(
        "the same against our own first edit of the picture",
        measurement(second / first),
        measurement(first, "1.00 = {} s, through the queue"),
    )
