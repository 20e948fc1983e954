"""A worker that writes down what it does when, forwards included (spans.py).

SPANS=spans.jsonl celery -A benchmarks.timed worker
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from typing import Any

from benchmarks.spans import watch_forwards, watch_services
from diffedit.contract.stages import Artifact
from diffedit_worker.app import create_app
from diffedit_worker.models.loading import Models
from diffedit_worker.pipeline import PIPELINE
from diffedit_worker.settings import WorkerSettings

watch_services()
_watch_forwards = cache(watch_forwards)


def watched(run: Callable[..., dict[Artifact, Any]]) -> Callable[..., dict[Artifact, Any]]:
    @wraps(run)
    def watched_run(*, models: Models, **needs: Any) -> dict[Artifact, Any]:
        _watch_forwards(models)
        return run(models=models, **needs)

    return watched_run


app = create_app(
    WorkerSettings.from_env(), {stage: replace(row, run=watched(row.run)) for stage, row in PIPELINE.items()}
)
