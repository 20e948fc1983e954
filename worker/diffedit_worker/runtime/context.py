"""What a running stage and the maintenance thread need of the worker around them."""

from collections.abc import Callable
from dataclasses import dataclass

from diffedit.contract.job import Job


@dataclass(frozen=True)
class WorkerContext:
    """The worker of this process.

    Attributes:
        id: the worker's id, unique to this process.
        enqueue: puts a job into the queue of its next stage. Raises BrokerUnavailable.
        shutting_down: returns whether the worker stops, so that its job must go to another worker.
        release_slot: lets the worker take its next message although the current task still uploads its result.
    """

    id: str
    enqueue: Callable[[Job], None]
    shutting_down: Callable[[], bool]
    release_slot: Callable[[], None]
