"""Errors about one job, and warnings about jobs."""

from datetime import datetime

from diffedit.errors.base import DiffEditError

CODES_OF_THE_REQUEST = frozenset({"bad_picture", "empty_mask", "invalid_request", "text_too_long"})
"""The codes of a failed job that are due to its request. All others are due to the service."""


class JobError(DiffEditError):
    """Base of all errors about one job.

    Attributes:
        job_id: the id of the job.
    """

    code = "job_error"
    _public: str | None = None

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(f"job {job_id}: {message}")
        self.job_id = job_id


class JobNotFound(JobError):
    """Raised when there is no record of the job: it was never submitted to this server, or its record has expired.

    Check the id and `DIFFEDIT_REDIS_URL`. Records are kept for `DIFFEDIT_RETENTION` seconds after the end of a job.

    Attributes:
        data_since: when the data of the server begin, by its own clock. Records from before are lost. None if that was
            not asked for, or is not known.
    """

    code = "job_not_found"
    http_status = 404
    _public = "there is no such job, or its record has expired"

    def __init__(self, job_id: str, data_since: datetime | None = None) -> None:
        since = f"; the server has no records from before {data_since:%Y-%m-%d %H:%M:%S} UTC" if data_since else ""
        super().__init__(job_id, f"not found; check the id and the Redis URL; records of old jobs expire{since}")
        self.data_since = data_since


class JobLost(JobNotFound):
    """Raised when the server has lost its data, the record of this job among them, before the job had ended.

    What was asked for is still in the bucket. An operator brings the job back with `diffedit restore`; then ask again.
    """

    code = "job_lost"
    retryable = True
    _public = "the service has lost its data, and this job with them; it may come back, so try again later"

    def __init__(self, job_id: str, data_since: datetime | None = None) -> None:
        super().__init__(job_id, data_since)
        since = f" (its data begin at {data_since:%Y-%m-%d %H:%M:%S} UTC)" if data_since else ""
        self.args = (
            f"job {job_id}: the server has lost its record{since}; what was asked for is in the bucket: an "
            "operator brings the job back with `diffedit restore`",
        )


class BadRecord(JobError):
    """Raised when the job's record cannot be read, because it is damaged."""

    code = "bad_record"
    _public = "the record of this job cannot be read; submit the edit again"

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(
            job_id, f"its record cannot be read ({reason}); somebody has changed it; submit the edit again"
        )


class NewerRecord(BadRecord):
    """Raised when a newer version has submitted the job, and it uses what this version does not know.

    Upgrade this program. A worker of that version can run the job.
    """

    code = "newer_record"
    _public = "this job cannot be read at present; try again later"

    def __init__(self, job_id: str) -> None:
        JobError.__init__(self, job_id, "a newer version of diffedit-service has submitted it; upgrade this program")


class JobElsewhere(JobError):
    """Raised between workers only: another worker runs the job, or the job has already passed this stage."""

    code = "job_elsewhere"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "another worker runs it, or it has already passed this stage; nothing to do")


class CannotChange(JobError):
    """Raised when an administrator asks for what the job does not allow, such as a retry of one that has not ended.

    Nothing was changed. The message says why.
    """

    code = "cannot_change"
    http_status = 409

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(job_id, f"cannot be changed: {reason}")


class JobTimeout(JobError, TimeoutError):
    """Raised when the wait ends before the job does. The job goes on: wait again, or cancel it."""

    code = "job_timeout"
    http_status = 504
    retryable = True


class JobFailed(JobError):
    """Raised by `wait` and `result` when the job has failed. Branch on `error_code`; the message says what to do.

    Attributes:
        stage: the stage that failed; None if the job failed outside of a stage.
        error_code: the code of what went wrong, as in `JobStatus.error.code`. (`code` is always "job_failed".)
        message: what went wrong, for a person.
    """

    code = "job_failed"
    _public = "the edit could not be made, through no fault of the request; submit it again"

    def __init__(self, job_id: str, *, stage: str | None, error_code: str, message: str) -> None:
        super().__init__(job_id, f"failed in stage {stage or '-'} with {error_code}: {message}")
        self.stage = stage
        self.error_code = error_code
        self.message = message
        if error_code in CODES_OF_THE_REQUEST:
            self.http_status = 422
            self.with_public(message)


class JobCancelled(JobError):
    """Raised by `wait` and `result` when the job was cancelled. Call `retry()` to submit it again."""

    code = "job_cancelled"
    http_status = 409
    _public = "the job was cancelled"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "was cancelled; retry() submits it again")


class JobExpired(JobError):
    """Raised by `wait` and `result` when the job has exceeded its `start_timeout` or its `deadline`.

    Call `retry()` to submit it again, with the same limits.
    """

    code = "job_expired"
    http_status = 504
    _public = "the job has exceeded its time limit"

    def __init__(self, job_id: str, limit: str = "its time limit") -> None:
        super().__init__(job_id, f"exceeded {limit}; retry() submits it again, with the same limits")


class NoWorkerWarning(UserWarning):
    """Issued when a job was queued that no live worker can run: the job waits. Start a worker for its profile."""


class UnreadableJobsWarning(UserWarning):
    """Issued by `Client.jobs` for jobs whose records are damaged, or need a newer version. The text has their ids."""
