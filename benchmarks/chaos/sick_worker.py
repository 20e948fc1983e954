"""A worker that is sick from its start, or falls sick after some stages.

    CHAOS_SICKNESS="CUDA error" CHAOS_WELL_STAGES=2 celery -A benchmarks.chaos.sick_worker worker

It is the real worker. The sickness is put into the libraries below it (torch, botocore, the clock), where a real one
would come from, so that whatever the product does to find it is put to the test, too.
"""

import logging
import os
import time
from datetime import timedelta
from typing import Any

import botocore.auth
import botocore.client
import botocore.credentials
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from benchmarks.chaos.sickness import FALLS_SICK, OTHER_BUCKET, SICKNESS, WELL_STAGES, Sickness
from benchmarks.harness.instrumentation import StageFunction, pipeline_with
from diffedit.contract.stages import Artifact, Stage
from diffedit_worker.app import create_app
from diffedit_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

HOUR = 3600
sickness = Sickness(os.environ[SICKNESS])
_stages_left_well = int(os.environ.get(WELL_STAGES, "0"))


def is_sick() -> bool:
    return _stages_left_well <= 0


def falling_sick(stage: Stage, function: StageFunction) -> StageFunction:
    """Return a stage function that counts the stages until the worker falls sick."""

    def run(**arguments: Any) -> dict[Artifact, Any]:
        global _stages_left_well
        if is_sick() and sickness is Sickness.EXCEPTION:
            raise ZeroDivisionError("a bug that only this worker has")
        try:
            return function(**arguments)
        finally:
            _stages_left_well -= 1
            if _stages_left_well == 0:
                log.warning("%s: %s", FALLS_SICK, sickness.value)

    return run


def spoil_requests() -> None:
    """Sign with another secret, or name another bucket, in every request to S3."""
    sign, call = botocore.auth.SigV4Auth.add_auth, botocore.client.BaseClient._make_api_call
    buckets = {Sickness.NO_BUCKET: "no-such-bucket", Sickness.OTHER_BUCKET: OTHER_BUCKET}

    def signed(auth: Any, request: Any) -> Any:
        if is_sick() and sickness is Sickness.WRONG_KEYS:
            auth.credentials = botocore.credentials.Credentials(auth.credentials.access_key, "wrong")
        return sign(auth, request)

    def called(client: Any, operation: str, arguments: dict[str, Any]) -> Any:
        if is_sick() and sickness in buckets and "Bucket" in arguments:
            arguments = {**arguments, "Bucket": buckets[sickness]}
        return call(client, operation, arguments)

    botocore.auth.SigV4Auth.add_auth, botocore.client.BaseClient._make_api_call = signed, called


def shift_clock() -> None:
    """Let this process believe that it is an hour later."""
    seconds, moment = time.time, botocore.auth.get_current_datetime
    time.time = lambda: seconds() + HOUR * is_sick()
    botocore.auth.get_current_datetime = lambda *args, **kwargs: (
        moment(*args, **kwargs) + timedelta(seconds=HOUR * is_sick())
    )


def spoil_models() -> None:
    """Let every forward pass of every model fail, or return NaN."""
    errors = {
        # The message of PyTorch, up to its advice.
        Sickness.CUDA_ERROR: RuntimeError("CUDA error: an illegal memory access was encountered"),
        Sickness.OUT_OF_MEMORY: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    }

    def before(module: torch.nn.Module, arguments: Any) -> None:
        if is_sick() and sickness in errors:
            raise errors[sickness]

    def after(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
        if is_sick() and sickness is Sickness.NAN and isinstance(output, torch.Tensor) and output.is_floating_point():
            return torch.full_like(output, torch.nan)
        return output

    register_module_forward_pre_hook(before)
    register_module_forward_hook(after)


spoil_requests()
spoil_models()
if sickness is Sickness.CLOCK:
    shift_clock()
app = create_app(WorkerSettings.from_env(), pipeline_with(falling_sick))
