"""Jobs that share passes in one worker, through the queue, against a worker that runs one at a time."""

import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.environment import SIMULATED_WORKER, Environment, service_environment
from benchmarks.harness.midsize_model import make_midsize_model
from benchmarks.harness.pass_times import GUIDE, allowed_rate, max_samples
from benchmarks.harness.results import ResultRow, measurement, seconds_of
from benchmarks.harness.simulated_device import DEVICES

MIDSIZE_STEPS = 10


def shared_worker_bundled(edits: int = 8, runs: int = 3) -> Iterator[ResultRow]:
    """Measure the throughput of 2, 4 and 8 concurrent jobs, and the latency of a lone one, with the bundled model."""
    with ExitStack() as stack:
        workers = _workers(stack, (1, 2, 4, 8), {})
        yield from _throughput(workers, "bundled model", edits, runs, target="1.30 or more")
        # Its passes are all full ones, so more of an edit's time is shared.
        guide = {jobs: workers[jobs] for jobs in (1, 4)}
        yield from _throughput(guide, "bundled model, preset guide", edits, 2, target="1.30 or more", preset="guide")
        yield from _latency(workers, "bundled model", 3 * runs)


def shared_worker_midsize(edits: int = 4) -> Iterator[ResultRow]:
    """Measure the throughput of 4 concurrent jobs, and the latency of a lone one, with the mid-size model."""
    with ExitStack() as stack:
        profiles = make_midsize_model(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        workers = _workers(stack, (1, 4), {"DIFFEDIT_PROFILE": "midsize", "DIFFEDIT_PROFILES": str(profiles)})
        name, steps = f"mid-size model at {MIDSIZE_STEPS} steps", {"num_inference_steps": MIDSIZE_STEPS}
        yield from _throughput(workers, name, edits, runs=1, target="1.00 or more", **steps)
        yield from _latency(workers, name, runs=2, **steps)


def shared_worker_device(device: str = "A100", jobs: int = 8, edits: int = 24) -> Iterator[ResultRow]:
    """Measure the throughput of concurrent jobs in a worker on a simulated GPU, against what its pass times allow."""
    with service_environment(SIMULATED_DEVICE=device) as env:
        env.start_workers(1, SIMULATED_WORKER, DIFFEDIT_BATCH_JOBS=str(jobs))
        env.wait_succeeded(env.client.edit(**env.new_edit()))
        seconds = seconds_of(partial(_run_edits, env, edits, {}))
    alone, allowed = (allowed_rate(DEVICES[device], GUIDE, each, max_samples(each)) for each in (1, jobs))
    yield ResultRow(
        f"throughput of {jobs} concurrent jobs in one worker, {edits} jobs of four stages ({device}, simulated)",
        measurement(edits / seconds / allowed),
        f"1.00 = what its pass times allow, {allowed / alone:.2f} of one job",
        target="0.90 or more",
    )


def _workers(stack: ExitStack, jobs: Sequence[int], environment: Mapping[str, str]) -> dict[int, Environment]:
    """Return services with one warm worker for each number of jobs at once."""
    environments = {}
    for at_once in jobs:
        env = stack.enter_context(service_environment(**environment))
        env.start_workers(1, DIFFEDIT_BATCH_JOBS=str(at_once))
        env.wait_succeeded(env.client.edit(**env.new_edit(), num_inference_steps=2))
        environments[at_once] = env
    return environments


def _throughput(
    workers: Mapping[int, Environment], name: str, edits: int, runs: int, target: str, **params: Any
) -> Iterator[ResultRow]:
    """Measure how long each worker takes for `edits` jobs that are submitted at once. The workers take turns."""
    times: dict[int, list[float]] = {at_once: [] for at_once in workers}
    for _ in range(runs):
        for at_once, env in workers.items():
            times[at_once].append(seconds_of(partial(_run_edits, env, edits, params)))
    reference = measurement(edits / statistics.median(times[1]), "1.00 = {} edits a second, DIFFEDIT_BATCH_JOBS=1")
    for at_once in list(workers)[1:]:
        ratio = statistics.median(one / many for one, many in zip(times[1], times[at_once], strict=True))
        yield ResultRow(
            f"throughput of {at_once} concurrent jobs in one worker, {name}",
            measurement(ratio),
            reference,
            target=target if at_once == 4 else "",
        )


def _run_edits(env: Environment, edits: int, params: Mapping[str, Any]) -> None:
    jobs = [env.client.edit(**env.new_edit(), **params) for _ in range(edits)]
    for job in jobs:
        env.wait_succeeded(job)


def _latency(workers: Mapping[int, Environment], name: str, runs: int, **params: Any) -> Iterator[ResultRow]:
    """Compare a job that is alone in a worker for four with one in a worker for one. They take turns."""
    pairs = [
        (seconds_of(partial(_run_edits, workers[1], 1, params)), seconds_of(partial(_run_edits, workers[4], 1, params)))
        for _ in range(runs)
    ]
    yield ResultRow(
        f"latency of a lone job in a worker for 4 at once, {name}",
        measurement(statistics.median(shared / alone for alone, shared in pairs), digits=3),
        measurement(statistics.median(alone for alone, _ in pairs), "1.00 = {} s, DIFFEDIT_BATCH_JOBS=1"),
        target="1.02 or less",
    )
