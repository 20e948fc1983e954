"""What becomes of a job when its stage stops early: a table from the error to a disposition."""

import logging
from enum import Enum

from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.errors import (
    BrokerUnavailable,
    DiffEditError,
    JobElsewhere,
    JobNotFound,
    ServiceError,
    StoreRefused,
    StoreUnavailable,
)
from diffedit.jobs.store import MaxAttemptsExceeded
from diffedit_worker.runtime.artifacts import ArtifactDamaged

log = logging.getLogger(__name__)


class JobEnded(Exception):
    """The job has ended, for example because it was cancelled."""

    def __init__(self, outcome: State) -> None:
        super().__init__(f"the job is {outcome.value}")


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
    RETRY = "is tried again"
    """The job returns to its queue. The attempt counts, and its cause is recorded."""
    REQUEUE = "returns to its queue"
    """The job returns to its queue. The attempt does not count."""
    WAIT_FOR_LOCK = "waits"
    """The job waits without a message in a queue. The holder of the lock sends the message. No attempt counts."""
    MAKE_AGAIN = "returns to an earlier stage"
    """The damaged artifact is deleted, and the job returns to the stage that makes it. The attempt counts."""
    DROP = "is dropped"
    """Nothing is left to do here: the job has ended, another worker has it, or maintenance will requeue it."""


DISPOSITIONS: dict[type[Exception], Disposition] = {
    JobEnded: Disposition.DROP,
    JobNotFound: Disposition.DROP,
    JobElsewhere: Disposition.DROP,
    # Nothing can be recorded now. Maintenance requeues the job when Redis answers again.
    BrokerUnavailable: Disposition.DROP,
    WorkerStopping: Disposition.REQUEUE,
    BeingMade: Disposition.WAIT_FOR_LOCK,
    ArtifactDamaged: Disposition.MAKE_AGAIN,
    StoreUnavailable: Disposition.RETRY,
    # S3 answered. Another attempt would get the same answer.
    StoreRefused: Disposition.FAIL,
    # Every other error, of this project or not, is a failure of the job.
    Exception: Disposition.FAIL,
}
"""The row of the most specific class applies."""


def disposition_of(error: Exception) -> Disposition:
    """Return what becomes of a job whose stage raised this error."""
    return next(DISPOSITIONS[kind] for kind in type(error).__mro__ if kind in DISPOSITIONS)


def log_disposition(error: Exception, job_id: str, stage: Stage) -> Disposition:
    """Log what becomes of the job, and return it. A failure is logged where it is recorded."""
    disposition = disposition_of(error)
    if disposition is not Disposition.FAIL:
        level = logging.WARNING if isinstance(error, ServiceError | ArtifactDamaged) else logging.INFO
        log.log(level, "job %s: stage %s %s: %s", job_id, stage.value, disposition.value, error)
    elif not isinstance(error, DiffEditError | MaxAttemptsExceeded):
        log.error("job %s: stage %s raised an unexpected error", job_id, stage.value, exc_info=error)
    return disposition
