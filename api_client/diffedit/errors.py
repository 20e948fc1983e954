"""Every error that a user can meet.

    DiffEditError
    |-- InvalidRequest          what was asked cannot be done; raised before anything is queued
    |   |-- BadPicture          the picture (or the mask) cannot be used
    |   `-- UnknownProfile      no such model profile
    |-- ServiceError            a service that we depend on does not answer
    |   |-- BrokerUnavailable   Redis / Valkey
    |   |   `-- BrokerFull      its memory is used up
    |   `-- StoreUnavailable    S3
    |       `-- StoreRefused    it answers, and does not let us; waiting does not help
    |-- QueueFull               as many jobs wait as may; try again later
    |-- ArtifactError           a stored artifact is missing or is not what its key promises
    |-- StageError              a stage cannot do its work on this input; fails the job
    |   |-- EmptyMask
    |   |-- NotFinite
    |   |-- OutOfMemory
    |   `-- ModelUnavailable
    `-- JobError                about one job; carries job_id
        |-- JobNotFound
        |-- BadRecord           written by a client of another version, or damaged
        |-- JobElsewhere        between workers only: another one has this job
        |-- JobTimeout          the wait ended, the job did not
        |-- JobFailed           carries stage, code, message
        |-- JobCancelled
        `-- JobExpired

`code` is stable: it travels in the job record, in `--json` output and in log lines, and programs may branch on it.
Messages say what to do next and may change.
"""

from typing import Any, ClassVar


class DiffEditError(Exception):
    """Base of everything that this project raises on purpose."""

    code: ClassVar[str] = "error"


class InvalidRequest(DiffEditError):
    """The request contradicts itself or leaves its ranges; the message names the field."""

    code = "invalid_request"


class BadPicture(InvalidRequest):
    """The picture or mask cannot be decoded, is too large, too small, animated or of an unsupported format."""

    code = "bad_picture"


class UnknownProfile(InvalidRequest):
    """No model profile of that name."""

    code = "unknown_profile"


class ServiceError(DiffEditError):
    """A service that we depend on does not answer."""

    code = "service_unavailable"


class BrokerUnavailable(ServiceError):
    """Redis / Valkey does not answer, or refuses the credentials."""

    code = "broker_unavailable"


class BrokerFull(BrokerUnavailable):
    """Redis / Valkey has used up its memory (`maxmemory`). Nothing was recorded and nothing queued."""

    code = "broker_full"

    def __init__(self) -> None:
        super().__init__("the memory of Redis is used up (maxmemory), so nothing was queued; raise it, or try later")


class StoreUnavailable(ServiceError):
    """S3 does not answer, or refuses the credentials."""

    code = "store_unavailable"


class StoreRefused(StoreUnavailable):
    """S3 answers and refuses: wrong keys, no such bucket, no permission. Asking again does not help."""

    code = "store_refused"


class QueueFull(DiffEditError):
    """As many jobs wait in this lane of this profile as `max_queued` allows. Nothing was queued."""

    code = "queue_full"

    def __init__(self, lane: str, profile: str, max_queued: int) -> None:
        told = f"{max_queued} jobs wait in the {lane} lane of profile {profile} already; try again later"
        super().__init__(f"{told}, add workers, or raise DIFFEDIT_MAX_QUEUED")


class ArtifactError(DiffEditError):
    """An artifact is missing, truncated or not of the kind that its key promises."""

    code = "bad_artifact"


class StageError(DiffEditError):
    """A stage cannot do its work on this input. The job fails with this error's code."""

    code = "stage_failed"


class EmptyMask(StageError):
    """The mask selects nothing, so there is nothing to edit."""

    code = "empty_mask"


class NotFinite(StageError):
    """The model gave infinities or NaN. Nothing of it is stored."""

    code = "not_finite"

    def __init__(self) -> None:
        super().__init__("the model gave values that are not finite; ask for less guidance, or use another device")


class OutOfMemory(StageError):
    """The device's memory does not hold this job, in small batches either."""

    code = "out_of_memory"

    def __init__(self) -> None:
        super().__init__(
            "the device ran out of memory, also with half the batch; use a larger device or a smaller profile"
        )


class ModelUnavailable(StageError):
    """The model of this profile cannot be loaded on this worker."""

    code = "model_unavailable"


class JobError(DiffEditError):
    """About one job, named by `job_id`."""

    code = "job_error"

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(f"job {job_id}: {message}")
        self.job_id = job_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled by their arguments, and ours are not what __init__ takes; process pools pickle them.
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[JobError], args: tuple[Any, ...], attributes: dict[str, Any]) -> JobError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


class JobNotFound(JobError):
    """No record of this job: never submitted here, or past its retention."""

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "not found; check the id and the Redis URL, or its record is past its retention")


class BadRecord(JobError):
    """The job's record cannot be read: a client of another version wrote it, or it is damaged."""

    code = "bad_record"

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(job_id, f"its record cannot be read ({reason}); let client and workers be of one version")


class JobElsewhere(JobError):
    """Another worker has this job, or it is past the stage that was asked for. Nobody but workers meets this."""

    code = "job_elsewhere"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "is in other hands, or past this stage; there is nothing to do for it here")


class JobTimeout(JobError, TimeoutError):
    """The wait ended before the job did. The job goes on: wait again, or cancel it."""

    code = "job_timeout"


class JobFailed(JobError):
    """The job ended in FAILED.

    Attributes:
        stage: the stage that failed, or None if the job failed outside of any stage.
        failure: the wire code of what went wrong (`code` itself stays "job_failed").
        message: what went wrong, for a person.
    """

    code = "job_failed"

    def __init__(self, job_id: str, *, stage: str | None, failure: str, message: str) -> None:
        super().__init__(job_id, f"failed in stage {stage or '-'} with {failure}: {message}")
        self.stage = stage
        self.failure = failure
        self.message = message


class JobCancelled(JobError):
    """The job was cancelled."""

    code = "job_cancelled"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "was cancelled; retry() submits it again")


class JobExpired(JobError):
    """The job ran out of the time that it was given."""

    code = "job_expired"

    def __init__(self, job_id: str, limit: str = "the time that it was given") -> None:
        super().__init__(job_id, f"ran out of {limit}; retry() submits it again, with the same limits")


class NoWorkerWarning(UserWarning):
    """The job is queued, but no live worker serves its profile."""
