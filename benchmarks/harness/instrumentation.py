"""Other stage functions for a worker, and a line in a file for each span.

A worker takes other stage functions as a parameter, but it has none for an observer. This is the only file of the
benchmarks that replaces parts of the product. A benchmark worker is a process of its own, so these changes never reach
a test or a user.

Spans are written to the file that the environment variable SPANS names. Without it, nothing is traced.
"""

import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from typing import Any, TextIO

import torch

from benchmarks.harness.spans import RECORD, S3, STAGE, TEXT, UNET, VAE, Span
from diffedit.contract.stages import Artifact, Stage
from diffedit.jobs.redis_store import RedisJobStore
from diffedit.jobs.redis_workers import RedisArtifactLocks
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.diffusion.denoiser import UNetDenoiser
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import PIPELINE
from diffedit_worker.runtime.runner import Runner
from diffedit_worker.stages.definition import StageDefinition

StageFunction = Callable[..., dict[Artifact, Any]]

_thread = threading.local()


def pipeline_with(replacement: Callable[[Stage, StageFunction], StageFunction]) -> dict[Stage, StageDefinition]:
    """Return the pipeline with the function of each stage replaced by `replacement(stage, function)`."""
    # `wraps` keeps the signature: the stage's inputs and parameters are read from it.
    return {
        stage: replace(definition, run=functools.wraps(definition.run)(replacement(stage, definition.run)))
        for stage, definition in PIPELINE.items()
    }


def trace_services() -> None:
    """Trace each stage, its calls of the job store and the artifact locks, and all requests to S3."""
    if "SPANS" not in os.environ:
        return
    # Only the calls of a running stage: the maintenance thread calls the job store as well, on behalf of no job.
    for cls in (RedisJobStore, RedisArtifactLocks):
        _trace_methods(cls, RECORD, only_if=lambda: getattr(_thread, "in_stage", False))
    # All of them: a stage makes its requests in other threads, and nothing else in a worker uses S3.
    _trace_methods(S3ObjectStore, S3, only_if=lambda: True)
    run = Runner.run

    def traced_run(runner: Runner, stage: Stage, job_id: str) -> Any:
        _thread.in_stage = True
        try:
            with _traced(STAGE, stage.value):
                return run(runner, stage, job_id)
        finally:
            _thread.in_stage = False

    setattr(Runner, "run", traced_run)  # noqa: B010 - mypy rejects the plain assignment


def trace_forwards(models: Models) -> None:
    """Load all models and trace their forward passes.

    Only modules that are called once per forward pass are traced, and none that is called inside another one.
    """
    captioner, prompter = models.captioner[1], models.prompter[1]
    modules = {
        UNET: (models.unet,),
        VAE: (models.vae.encoder, models.vae.decoder),
        TEXT: (
            models.text_encoder[1],
            captioner.vision_model,
            captioner.text_decoder,
            prompter.encoder,
            prompter,
        ),
    }
    # A shallow pass does not call the UNet's own forward.
    shallow_pass = _traced_method(UNET, "shallow", UNetDenoiser._shallow_pass, only_if=lambda: True)
    setattr(UNetDenoiser, "_shallow_pass", shallow_pass)  # noqa: B010 - mypy rejects the plain assignment
    for kind, traced in modules.items():
        for module in traced:
            _trace_forward(module, kind)


def _trace_forward(module: torch.nn.Module, kind: str) -> None:
    began = 0.0

    def start(*_: object) -> None:
        nonlocal began
        began = time.monotonic()

    def end(*_: object) -> None:
        _write(Span(kind, "forward", began, time.monotonic()))

    module.register_forward_pre_hook(start)
    module.register_forward_hook(end)


def _trace_methods(cls: type, kind: str, only_if: Callable[[], bool]) -> None:
    for name, method in list(vars(cls).items()):
        if callable(method) and not name.startswith("_"):
            setattr(cls, name, _traced_method(kind, name, method, only_if))


def _traced_method(kind: str, name: str, method: Callable[..., Any], only_if: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(method)
    def traced(*args: Any, **options: Any) -> Any:
        if not only_if():
            return method(*args, **options)
        with _traced(kind, name):
            return method(*args, **options)

    return traced


@contextmanager
def _traced(kind: str, name: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        _write(Span(kind, name, began, time.monotonic()))


@functools.cache
def _file() -> TextIO:
    return open(os.environ["SPANS"], "a", buffering=1)


def _write(span: Span) -> None:
    _file().write(json.dumps(astuple(span)) + "\n")
