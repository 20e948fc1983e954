"""What a worker does when: its calls of the job's record, its requests to S3, the models' forwards, whole stages.

A worker (`timed.py`, `simulated.py`) writes a line for each into the file that `SPANS` names, and without it none.
Times are those of `time.monotonic`, which Linux counts alike for all processes.
"""

import functools
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from diffedit.jobs.redis_store import RedisJobStore
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.models.loading import Models
from diffedit_worker.runtime.runner import Runner

UNET, VAE, TEXT = "UNet", "VAE", "text models"
S3, RECORD, STAGE = "S3", "record", "stage"
MODELS = (UNET, VAE, TEXT)


@dataclass(frozen=True)
class Span:
    kind: str
    name: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def read(path: Path) -> list[Span]:
    return [Span(*json.loads(line)) for line in path.read_text().splitlines()]


def segments(spans: Sequence[Span], began: float, ended: float, kinds: Sequence[str], rest: str) -> list[Span]:
    """The time from `began` to `ended` in pieces that do not overlap: each is of the first of `kinds` that has it.

    What none of them has is called `rest`. Names are lost.
    """
    inside = [span for span in spans if span.kind in kinds and span.ended > began and span.began < ended]
    marks = sorted({began, ended, *(min(max(at, began), ended) for span in inside for at in (span.began, span.ended))})
    found: list[Span] = []
    for start, end in itertools.pairwise(marks):
        there = {span.kind for span in inside if span.began <= start and span.ended >= end}
        kind = next((kind for kind in kinds if kind in there), rest)
        if found and found[-1].kind == kind:
            start = found.pop().began
        found.append(Span(kind, "", start, end))
    return found


def shares(pieces: Sequence[Span]) -> dict[str, float]:
    """How much of the whole each kind has, from 0 to 1."""
    whole = sum(piece.seconds for piece in pieces)
    kinds = dict.fromkeys(piece.kind for piece in pieces)
    return {kind: sum(piece.seconds for piece in pieces if piece.kind == kind) / whole for kind in kinds}


def watch_services() -> None:
    """From now on, stages and calls of record and store are written down."""
    if "SPANS" not in os.environ:
        return
    for owner, kind in ((RedisJobStore, RECORD), (S3ObjectStore, S3)):
        for name, method in list(vars(owner).items()):
            if callable(method) and not name.startswith("_"):
                setattr(owner, name, _spanned(kind, name, method))
    run = Runner.run

    def run_spanned(runner: Runner, stage: Any, job_id: str) -> Any:
        with _span(STAGE, stage.value):
            return run(runner, stage, job_id)

    setattr(Runner, "run", run_spanned)  # noqa: B010 - mypy refuses the plain assignment


def watch_forwards(models: Models) -> None:
    """Of those parts that are called once for each forward, none inside another. Loads them all."""
    captioner, prompter = models.captioner[1], models.prompter[1]
    text = (models.text_encoder[1], captioner.vision_model, captioner.text_decoder, prompter.encoder, prompter)
    parts = {UNET: (models.unet,), VAE: (models.vae.encoder, models.vae.decoder), TEXT: text}
    for kind, modules in parts.items():
        for module in modules:
            _watch(module, kind)


def _watch(module: torch.nn.Module, kind: str) -> None:
    began = 0.0

    def enter(*_: object) -> None:
        nonlocal began
        began = time.monotonic()

    def leave(*_: object) -> None:
        _write(Span(kind, "forward", began, time.monotonic()))

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def _spanned(kind: str, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def spanned(*args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "keeper":  # which works for no job
            return method(*args, **options)
        with _span(kind, name):
            return method(*args, **options)

    return spanned


@contextmanager
def _span(kind: str, name: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        _write(Span(kind, name, began, time.monotonic()))


@functools.cache
def _file() -> Any:
    return open(os.environ["SPANS"], "a", buffering=1)


def _write(span: Span) -> None:
    _file().write(json.dumps(astuple(span)) + "\n")
