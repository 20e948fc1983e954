"""The throughput of jobs that share passes in one process, against one job after the other."""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.baselines import edit_request, run_stages
from benchmarks.harness.concurrency import seconds_of_calls
from benchmarks.harness.midsize_model import make_midsize_model
from benchmarks.harness.results import ResultRow, measurement
from diffedit.contract.stages import Artifact
from diffedit.pictures import read_picture
from diffedit_worker.local.commands import PICTURE, SOURCE, TARGETS
from diffedit_worker.models.devices import limit_cpu_threads
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, Profile, load_profiles

JOBS = (1, 2, 4, 8)
MIDSIZE_STEPS = 10


def shared_passes_bundled(edits: int = 8, runs: int = 2) -> Iterator[ResultRow]:
    """Measure the bundled model, with the parameters of its profile."""
    yield from _throughput(load_profiles()["tiny"], "bundled model", JOBS, edits, runs)


def shared_passes_midsize(edits: int = 4) -> Iterator[ResultRow]:
    """Measure the mid-size model, with few steps."""
    with tempfile.TemporaryDirectory() as directory:
        profile = load_profiles(make_midsize_model(Path(directory)))["midsize"]
        name = f"mid-size model at {MIDSIZE_STEPS} steps"
        yield from _throughput(profile, name, (1, 4), edits, runs=1, num_inference_steps=MIDSIZE_STEPS)


def _throughput(
    profile: Profile, name: str, jobs: Sequence[int], edits: int, runs: int, **params: Any
) -> Iterator[ResultRow]:
    """Measure how long `edits` edits take with each number of jobs at once; the numbers take turns."""
    models = {at_once: Models(profile, device="cpu", batch_jobs=at_once) for at_once in jobs}
    limit_cpu_threads(profile, models[1].device)
    picture = read_picture((SAMPLES / PICTURE).read_bytes())

    def edit(at_once: int, seed: int, **more: Any) -> None:
        request = edit_request(
            profile, {"seed": seed, **params, **more}, source_prompt=SOURCE, target_prompt=TARGETS[0]
        )
        run_stages(models[at_once], request, {Artifact.IMAGE: picture})

    for at_once in jobs:
        # Warm up: load everything that is loaded on first use.
        edit(at_once, 0, num_inference_steps=2)
    times: dict[int, list[float]] = {at_once: [] for at_once in jobs}
    for _ in range(runs):
        for at_once in jobs:
            times[at_once].append(seconds_of_calls(partial(edit, at_once), edits, at_once))
    reference = measurement(edits / statistics.median(times[1]), "1.00 = {} edits a second, one job at a time")
    for at_once in jobs[1:]:
        ratio = statistics.median(one / many for one, many in zip(times[1], times[at_once], strict=True))
        yield ResultRow(
            f"throughput of {at_once} jobs that share passes, in process, {name}",
            measurement(ratio),
            reference,
        )
