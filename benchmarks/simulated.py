"""A worker whose device is simulated: each stage sleeps and gives the smallest artifacts that there are.

    celery -A benchmarks.simulated worker

Everything around the stages is the real thing. `SIMULATED_SECONDS` is how long a stage takes. The tasks of `BARE` are
what Celery alone would do: a chain of as many empty tasks, with as large a message. With `SPANS` it writes down what it
does when (spans.py).
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import redis
import torch
from PIL import Image

from benchmarks.spans import watch_services
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact, Stage
from diffedit.pictures import Picture
from diffedit_worker.app import create_app
from diffedit_worker.pipeline import PIPELINE
from diffedit_worker.settings import WorkerSettings

SECONDS = float(os.environ.get("SIMULATED_SECONDS", "0"))
BARE, LAST = "bare", "bare.last"
DONE = "bare:done"
"""The list on which a bare chain says that it is done."""


def artifacts(image: Picture | None) -> dict[Artifact, Any]:
    """Something valid for each slot that a stage gives."""
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


def simulated(stage: Stage, function: Callable[..., dict[Artifact, Any]]) -> Callable[..., dict[Artifact, Any]]:
    # `wraps` keeps the signature, from which the inputs and parameters of the stage are read.
    @wraps(function)
    def run(*, on_step: Callable[[int, int], None], image: Picture | None = None, **_: object) -> dict[Artifact, Any]:
        time.sleep(SECONDS)
        on_step(1, 1)
        made = artifacts(image)
        return {artifact: made[artifact] for artifact in PIPELINE[stage].outputs}

    return run


watch_services()
settings = WorkerSettings.from_env()
app = create_app(settings, {stage: replace(row, run=simulated(stage, row.run)) for stage, row in PIPELINE.items()})


@app.task(name=BARE)  # type: ignore[untyped-decorator]
def bare(message: Any) -> Any:
    return message


@app.task(name=LAST)  # type: ignore[untyped-decorator]
def last(message: Any) -> None:
    redis.Redis.from_url(settings.redis_url.get_secret_value()).lpush(DONE, 1)
