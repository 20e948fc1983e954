"""What becomes of a job when its stage stops early: a table from the error to a disposition."""

import logging
from enum import Enum

from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.errors import (
    ArtifactError,
    ArtifactMissing,
    BadRecord,
    BrokerUnavailable,
    DeviceFailed,
    DiffEditError,
    EmptyMask,
    InvalidRequest,
    JobElsewhere,
    JobNotFound,
    NewerRecord,
    ServiceError,
    TextTooLong,
    UnknownProfile,
)
from diffedit.jobs.store import MaxAttemptsExceeded, OwnerBusy, QueuePaused, RefusedBefore
from diffedit_worker.diffusion.device_errors import is_device_error
from diffedit_worker.models.hub import first_line
from diffedit_worker.runtime.artifacts import ArtifactDamaged
from diffedit_worker.runtime.failures import error_info
from diffedit_worker.runtime.stage_report import Outcome

log = logging.getLogger(__name__)


class JobEnded(Exception):
    """The job has ended, for example because it was cancelled."""

    def __init__(self, outcome: State) -> None:
        super().__init__(f"the job is {outcome.value}")


def raise_if_ended(outcome: State | None) -> None:
    """Raise JobEnded if there is an outcome."""
    if outcome is not None:
        raise JobEnded(outcome)


class WorkerStopping(Exception):
    """The worker shuts down. Another worker runs the stage."""

    def __init__(self) -> None:
        super().__init__("this worker shuts down")


class BeingMade(Exception):
    """Another job holds the lock of an artifact, because it is making the artifact."""


class Disposition(Enum):
    """What becomes of the job. The value completes the sentence "stage mask ..." in the log."""

    FAIL = "failed"
    """The job fails with the error."""
    REFUSE = "goes to another worker"
    """The job returns to its queue, with the note that this worker could not run the stage. The attempt does not count.
    The job fails only if several workers could not run the stage, or if nobody is left to try it."""
    REQUEUE = "returns to its queue"
    """The job returns to its queue. The attempt does not count."""
    HAND_BACK = "is left to other workers"
    """The stage is not started. After a pause, in which others may take messages, the message returns to the queue."""
    WAIT_FOR_LOCK = "waits"
    """The job waits without a message in a queue. The holder of the lock sends the message. No attempt counts."""
    PARK = "waits for other jobs of its owner"
    """The stage is not started. The end of another job of the owner sends the message."""
    HOLD = "waits until its queue is resumed"
    """The stage is not started. The message is held back until somebody ends the pause of the queue."""
    MAKE_AGAIN = "returns to an earlier stage"
    """The damaged artifact is deleted, and the job returns to the stage that makes it. The attempt counts."""
    DROP = "is dropped"
    """Nothing is left to do here: the job has ended, another worker has it, or maintenance will requeue it."""


DISPOSITIONS: dict[type[Exception], Disposition] = {
    JobEnded: Disposition.DROP,
    JobNotFound: Disposition.DROP,
    JobElsewhere: Disposition.DROP,
    RefusedBefore: Disposition.HAND_BACK,
    NewerRecord: Disposition.HAND_BACK,
    OwnerBusy: Disposition.PARK,
    QueuePaused: Disposition.HOLD,
    # Nothing can be recorded now. Maintenance requeues the job when Redis answers again.
    BrokerUnavailable: Disposition.DROP,
    WorkerStopping: Disposition.REQUEUE,
    BeingMade: Disposition.WAIT_FOR_LOCK,
    ArtifactDamaged: Disposition.MAKE_AGAIN,
    # The fault of the job itself: every worker would come to the same end.
    MaxAttemptsExceeded: Disposition.FAIL,
    BadRecord: Disposition.FAIL,
    InvalidRequest: Disposition.FAIL,
    EmptyMask: Disposition.FAIL,
    TextTooLong: Disposition.FAIL,
    ArtifactError: Disposition.FAIL,
    # Another worker may have another bucket and other profiles.
    ArtifactMissing: Disposition.REFUSE,
    UnknownProfile: Disposition.REFUSE,
    # Everything else may be the fault of this worker, its device, its keys or its network.
    Exception: Disposition.REFUSE,
}
"""The row of the most specific class applies."""


OUTCOMES = {
    Disposition.FAIL: Outcome.FAILED,
    Disposition.REFUSE: Outcome.REFUSED,
    Disposition.REQUEUE: Outcome.REQUEUED,
    Disposition.WAIT_FOR_LOCK: Outcome.REQUEUED,
    Disposition.MAKE_AGAIN: Outcome.REQUEUED,
    Disposition.DROP: Outcome.DROPPED,
    # These stages were not started, so there is no report of them.
    Disposition.HAND_BACK: Outcome.REQUEUED,
    Disposition.PARK: Outcome.REQUEUED,
    Disposition.HOLD: Outcome.REQUEUED,
}
"""How reports and Celery's events name what became of a stage."""


NO_ERRORS = (JobEnded, JobNotFound, JobElsewhere, WorkerStopping, BeingMade, RefusedBefore, OwnerBusy, QueuePaused)
"""What ends a stage, or prevents its start, although nothing is wrong."""


def code_of(error: Exception) -> str:
    """Return the error code of what ended a stage; "" if nothing was wrong, as after a cancellation."""
    if isinstance(error, NO_ERRORS):
        return ""
    return ArtifactError.code if isinstance(error, ArtifactDamaged) else error_info(error, None).code


def disposition_of(error: Exception) -> Disposition:
    """Return what becomes of a job whose stage raised this error."""
    return next(DISPOSITIONS[kind] for kind in type(error).__mro__ if kind in DISPOSITIONS)


def log_disposition(error: Exception, job_id: str, stage: Stage) -> Disposition:
    """Log what becomes of the job, and return it. A failure is logged where it is recorded."""
    disposition = disposition_of(error)
    unexpected = disposition is Disposition.REFUSE and not isinstance(error, DiffEditError)
    if disposition is not Disposition.FAIL:
        trouble = disposition is Disposition.REFUSE or isinstance(error, ServiceError | ArtifactDamaged)
        level = logging.ERROR if unexpected else logging.WARNING if trouble else logging.INFO
        reason = f"unexpected {type(error).__name__}" if unexpected else error
        trace = error if unexpected else None
        log.log(level, "job %s: stage %s %s: %s", job_id, stage.value, disposition.value, reason, exc_info=trace)
    return disposition


def device_failure(error: Exception) -> DeviceFailed | None:
    """Return what to report instead of an error of the device, whose text is long and speaks of torch's own options."""
    if not is_device_error(error):
        return None
    log.error("the device failed", exc_info=error)
    return DeviceFailed(f"the device of the worker failed ({first_line(error)}); the worker ends")
