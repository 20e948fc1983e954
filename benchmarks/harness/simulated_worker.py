"""A worker with a simulated device: each stage sleeps, and then returns the smallest valid artifacts.

    celery -A benchmarks.harness.simulated_worker worker

Everything else is the real worker. SIMULATED_SECONDS is how long a stage sleeps. If SIMULATED_DEVICE names a device
of `simulated_device`, the stages of the diffusion model make their passes on that device instead, and share them. With
SPANS, the worker writes down what it does when. The tasks `plain` and `plain.last` are the baseline: what a chain costs
with Celery alone.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import redis
import torch
from PIL import Image

from benchmarks.harness.instrumentation import StageFunction, pipeline_with, trace_services
from benchmarks.harness.pass_times import max_samples
from benchmarks.harness.simulated_device import (
    DEVICES,
    DIFFUSION_STAGES,
    SimulatedDenoiser,
    run_passes,
    use_one_thread,
)
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact, Stage
from diffedit.pictures import Picture
from diffedit_worker.app import create_app
from diffedit_worker.diffusion.batching import SharedDenoiser
from diffedit_worker.diffusion.denoiser import Denoiser
from diffedit_worker.runtime import artifacts
from diffedit_worker.settings import WorkerSettings

SECONDS = float(os.environ.get("SIMULATED_SECONDS", "0"))
PLAIN_TASK, LAST_PLAIN_TASK = "plain", "plain.last"
PLAIN_CHAIN_DONE = "plain:done"
"""The Redis list to which the last task of a plain chain adds an entry."""


def smallest_artifacts(image: Picture | None) -> dict[Artifact, Any]:
    """Return a valid value for each artifact that a stage makes."""
    picture = image or Picture(Image.new("RGB", (8, 8)), None, "png")
    return {
        Artifact.CAPTION: "a picture",
        Artifact.PROMPTS: Prompts(source=("a picture",), target=("another",)),
        Artifact.EMBEDDINGS: {name: torch.zeros(1, 1, 1) for name in ("source", "target", "negative")},
        Artifact.CAPTION_EMBEDDING: {name: torch.zeros(1, 1, 1) for name in ("caption", "unconditional")},
        Artifact.MASK: Image.new("L", picture.image.size, 255),
        Artifact.TRAJECTORY: {"latents": torch.zeros(1, 1, 1, 1, 1)},
        Artifact.RESULT: picture,
    }


def accept_every_artifact(*_: object) -> None:
    """Stands for `pipeline.check_artifact`: the smallest artifacts have not the shapes that a job's models give."""


def _shared_device(settings: WorkerSettings) -> Denoiser | None:
    if "SIMULATED_DEVICE" not in os.environ:
        return None
    use_one_thread()
    device = SimulatedDenoiser(DEVICES[os.environ["SIMULATED_DEVICE"]])
    return SharedDenoiser(device, max_samples(settings.batch_jobs or 1))


def simulated(stage: Stage, function: StageFunction) -> StageFunction:
    """Return a stage function that sleeps instead of computing."""

    def run(*, on_step: Callable[[int, int], None], image: Picture | None = None, **_: object) -> dict[Artifact, Any]:
        values = smallest_artifacts(image)
        if denoiser and stage in DIFFUSION_STAGES:
            run_passes(stage, denoiser, on_step)
            # As large as with Stable Diffusion 1.5 in float16, because it has to be stored before the next stage.
            values[Artifact.TRAJECTORY] = {"latents": torch.zeros(1, 41, 4, 64, 64, dtype=torch.float16)}
        else:
            time.sleep(SECONDS)
            on_step(1, 1)
        return {artifact: values[artifact] for artifact in stage.gives}

    return run


vars(artifacts).update(check_artifact=accept_every_artifact)
trace_services()
settings = WorkerSettings.from_env()
denoiser = _shared_device(settings)
app = create_app(settings, pipeline_with(simulated))


@app.task(name=PLAIN_TASK)  # type: ignore[untyped-decorator]
def plain(message: Any) -> Any:
    return message


@app.task(name=LAST_PLAIN_TASK)  # type: ignore[untyped-decorator]
def last(message: Any) -> None:
    redis.Redis.from_url(settings.redis_url.get_secret_value()).lpush(PLAIN_CHAIN_DONE, 1)
