"""What a running stage and the maintenance thread need of the worker around them."""

from collections.abc import Callable
from dataclasses import dataclass

from diffedit.contract.job import Job
from diffedit.contract.stages import Stage


@dataclass(frozen=True)
class WorkerContext:
    """The worker of this process.

    Attributes:
        id: the worker's id, unique to this process.
        enqueue: puts a job into the queue of its next stage. Raises BrokerUnavailable.
        shutting_down: returns whether the worker stops, so that its job must go to another worker.
        paused: returns whether the worker takes no jobs for the time being.
        release_slot: lets the worker take its next message although the current task still uploads its result.
        stage_refused: called when a stage of the job with this id was passed on because of this error. It may pause
            the worker or end the process.
        stage_handed_back: called when this worker leaves a message to others without starting the stage.
        job_recovered: called when the job of a dead worker was returned to its queue here.
        name: returns the worker's name, which stays the same when it starts again.
        stage_computed: called when a stage was computed here and its artifacts are stored.
    """

    id: str
    enqueue: Callable[[Job], None]
    shutting_down: Callable[[], bool]
    release_slot: Callable[[], None]
    paused: Callable[[], bool] = lambda: False
    stage_refused: Callable[[Stage, str, Exception], object] = lambda stage, job_id, error: None
    stage_computed: Callable[[Stage], object] = lambda stage: None
    stage_handed_back: Callable[[], object] = lambda: None
    job_recovered: Callable[[Job], object] = lambda job: None
    name: Callable[[], str] = lambda: ""
