"""A worker that writes down what it does when, including the forward passes of the models.

SPANS=spans.jsonl celery -A benchmarks.harness.traced_worker worker
"""

import functools
from typing import Any

from benchmarks.harness.instrumentation import StageFunction, replace_stage_functions, trace_forwards, trace_services
from diffedit.contract.stages import Artifact, Stage
from diffedit_worker.app import app
from diffedit_worker.models.loading import Models

__all__ = ["app"]

_trace_forwards_once = functools.cache(trace_forwards)


def with_traced_models(stage: Stage, function: StageFunction) -> StageFunction:
    """Return a stage function that traces the models before it uses them for the first time."""

    def run(*, models: Models, **arguments: Any) -> dict[Artifact, Any]:
        _trace_forwards_once(models)
        return function(models=models, **arguments)

    return run


trace_services()
replace_stage_functions(with_traced_models)
