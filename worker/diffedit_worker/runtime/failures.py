"""How the failure of a job is described and recorded. Imports no torch, because a worker without it uses this, too."""

import logging

from diffedit.contract.job import ErrorInfo, State
from diffedit.contract.stages import Stage
from diffedit.errors import ArtifactError, DiffEditError, JobError, ServiceError
from diffedit.jobs.store import WORKER_LOST, JobStore, MaxAttemptsExceeded

log = logging.getLogger(__name__)

TIMEOUT = "timeout"
"""The cause of an attempt that the watchdog ended."""

MAX_ATTEMPTS_MESSAGES = {
    WORKER_LOST: "every worker that ran this stage died; check the workers' logs, then call retry()",
    ArtifactError.code: "an artifact of an earlier stage was damaged at each attempt; check the bucket, then retry()",
    TIMEOUT: "each attempt had a step of over DIFFEDIT_STAGE_TIMEOUT; read the workers' logs, or raise the timeout",
}


def error_info(error: Exception, stage: Stage | None) -> ErrorInfo:
    """Return what a job's record says about the error that failed it.

    The text of an unexpected exception may hold anything, so it stays in the worker's log.
    """
    if isinstance(error, MaxAttemptsExceeded):
        return ErrorInfo(stage=stage, code=error.cause, message=MAX_ATTEMPTS_MESSAGES.get(error.cause, error.cause))
    if isinstance(error, DiffEditError):
        return ErrorInfo(stage=stage, code=error.code, message=str(error))
    message = f"unexpected {type(error).__name__}; the worker's log holds the traceback under this job's id"
    return ErrorInfo(stage=stage, code="internal", message=message)


def record_failure(job_store: JobStore, job_id: str, error: ErrorInfo, worker: str | None = None) -> None:
    """End the job as failed, if the record can be reached and `worker` (if given) still runs the job."""
    log.error("job %s: failed in stage %s with %s: %s", job_id, error.stage or "-", error.code, error.message)
    try:
        job_store.end_job(job_id, State.FAILED, error, worker)
    except (ServiceError, JobError) as problem:
        log.error("job %s: the failure could not be recorded: %s", job_id, problem)
