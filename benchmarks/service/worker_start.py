"""The start of a worker, against the bare import of the libraries that it needs."""

import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator

from benchmarks.harness.environment import Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement, seconds_of
from benchmarks.harness.waiting import wait_until
from diffedit import NoWorkerWarning

IMPORTS = """
import torch
from diffusers import AutoencoderKL, DDIMInverseScheduler, DDIMScheduler, UNet2DConditionModel
from transformers import AutoTokenizer, BlipForConditionalGeneration, CLIPTextModel, T5ForConditionalGeneration
"""
"""The program of the reference. It only imports the classes of the models."""

TIMEOUT = 120.0
_POLL = 0.01


def worker_start(starts: int = 2) -> Iterator[ResultRow]:
    """Measure `starts` workers of the bundled profile that load and prove their models, each with a job that waits."""
    seconds = []
    with service_environment(DIFFEDIT_PRELOAD="1") as env, warnings.catch_warnings():
        warnings.simplefilter("ignore", NoWorkerWarning)
        # The first start reads everything from the disk.
        _start(env, "first")
        for number in range(starts):
            seconds.append((seconds_of(_import_libraries), *_start(env, f"worker{number}")))
    imports, ready, first_stage = map(sum, zip(*seconds, strict=True))
    yield ResultRow(
        "start of a worker until it is ready, bundled models loaded and proved; the reference only imports torch, "
        "diffusers and transformers",
        measurement(ready / imports),
        measurement(imports / starts, "1.00 = {} s"),
        target="1.2 or less",
    )
    yield ResultRow("  the same until its first stage is computed", measurement(first_stage / imports))


def _import_libraries() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, stderr=subprocess.DEVNULL)


def _start(env: Environment, name: str) -> tuple[float, float]:
    """Return the seconds from a worker's start until it is announced, and until it has computed a stage."""
    job = env.client.edit(**env.new_edit())
    started = time.perf_counter()
    process = env.stack.start_worker(name)
    _wait(env, lambda: any(each.name.startswith(f"{name}@") for each in env.client.health().workers))
    ready = time.perf_counter() - started
    _wait(env, lambda: job.status().timings)
    first_stage = time.perf_counter() - started
    env.wait_succeeded(job)
    env.stack.stop(process)
    return ready, first_stage


def _wait(env: Environment, condition: Callable[[], object]) -> None:
    def holds() -> object:
        env.stack.check()
        return condition()

    if not wait_until(holds, TIMEOUT, interval=_POLL):
        raise TimeoutError(f"the worker has not started; see {env.stack.directory / 'logs'}")
