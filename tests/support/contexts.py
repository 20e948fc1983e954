"""What a runner or the maintenance needs of a worker, without a worker."""

from typing import Any

from diffedit.contract.stages import queue_names
from diffedit.jobs.backend import JobBackend
from diffedit.objects.store import ObjectStore
from diffedit.testing import MemoryObjectStore
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.fitness import Fitness


def a_context(**fields: Any) -> WorkerContext:
    """Return the context of a worker that does not shut down and forgets what it enqueues."""
    given = {
        "id": "rig",
        "enqueue": lambda job: None,
        "shutting_down": lambda: False,
        "release_slot": lambda: None,
    }
    return WorkerContext(**{**given, **fields})


def a_fitness(backend: JobBackend, object_store: ObjectStore | None = None, **functions: Any) -> Fitness:
    """Return the fitness of a worker whose models work, which is never really paused and does not end its process."""
    given = {"prove_models": lambda: None, "set_paused": lambda paused: None, "end_process": lambda: None}
    return Fitness(
        "rig@here", queue_names("tiny"), backend, object_store or MemoryObjectStore(), **{**given, **functions}
    )
