"""What a runner or the maintenance needs of a worker, without a worker."""

from typing import Any

from diffedit_worker.runtime.context import WorkerContext


def a_context(**fields: Any) -> WorkerContext:
    """Return the context of a worker that does not shut down and forgets what it enqueues."""
    given = {
        "id": "rig",
        "enqueue": lambda job: None,
        "shutting_down": lambda: False,
        "release_slot": lambda: None,
    }
    return WorkerContext(**{**given, **fields})
