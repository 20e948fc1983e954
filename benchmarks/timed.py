"""A worker that also says how long it was inside the models' forwards.

    celery -A benchmarks.timed worker

After each stage it appends a line to the list `FORWARDS` in Redis: the stage, and its seconds inside UNet, VAE and text
models.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis
import torch

from api_client.contract import Slot, Stage
from worker.app import app, settings
from worker.models import Models
from worker.pipeline import PIPELINE

__all__ = ["FORWARDS", "app"]

FORWARDS = "timed:forwards"

_inside = 0.0
_began = 0.0
_hooked: set[int] = set()


def _enter(module: torch.nn.Module, args: object) -> None:
    global _began
    _began = time.perf_counter()


def _leave(module: torch.nn.Module, args: object, output: object) -> None:
    global _inside
    _inside += time.perf_counter() - _began


def _hook(models: Models) -> None:
    """Those parts that are called once for each forward, none inside another."""
    if id(models) in _hooked:
        return
    _hooked.add(id(models))
    for part in (models.unet, models.vae.encoder, models.vae.decoder, models.text_encoder[1]):
        part.register_forward_pre_hook(_enter)
        part.register_forward_hook(_leave)


def timed(stage: Stage, run: Callable[..., dict[Slot, Any]]) -> Callable[..., dict[Slot, Any]]:
    def timed_run(*, models: Models, **needs: Any) -> dict[Slot, Any]:
        global _inside
        _hook(models)
        _inside = 0.0
        made = run(models=models, **needs)
        line = json.dumps([stage.value, _inside])
        redis.Redis.from_url(settings.redis_url.get_secret_value()).rpush(FORWARDS, line)
        return made

    return timed_run


for _stage, _row in PIPELINE.items():
    PIPELINE[_stage] = replace(_row, run=timed(_stage, _row.run))
