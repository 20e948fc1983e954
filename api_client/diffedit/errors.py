"""Every error that a user can meet.

    DiffEditError
    |-- InvalidRequest          the request is not valid; raised before anything is queued
    |   |-- BadPicture          the picture or the mask cannot be used
    |   |-- IdempotencyConflict the key names the job of another request; has job_id
    |   `-- UnknownProfile      there is no such model profile
    |-- ServiceError            a service does not answer
    |   |-- BrokerUnavailable   Redis or Valkey
    |   |   `-- BrokerFull      its memory is full
    |   `-- StoreUnavailable    S3
    |       `-- StoreRefused    it answers and refuses; another attempt does not help
    |-- QueueFull               too many jobs wait; try again later
    |-- ArtifactError           a stored artifact is missing or damaged
    |   `-- ArtifactMissing
    |-- LocalError              the services of `diffedit up` and `diffedit demo`
    |-- StageError              a stage cannot process its input; the job fails with this code
    |   |-- EmptyMask
    |   |-- NotFinite
    |   |-- OutOfMemory
    |   |-- ModelUnavailable
    |   |-- DeviceFailed
    |   `-- WorkerUnfit
    `-- JobError                about one job; has job_id
        |-- JobNotFound
        |-- BadRecord           damaged
        |   `-- NewerRecord     needs a newer version of this program
        |-- JobElsewhere        between workers only: another worker runs the job
        |-- JobTimeout          the wait has ended, the job has not; also a TimeoutError
        |-- JobFailed           has stage, error_code, message
        |-- JobCancelled
        `-- JobExpired

    NoWorkerWarning             a UserWarning: no live worker can run the job that was queued
    UnreadableJobsWarning       a UserWarning: records that were to be listed cannot be read

`code` is stable: it stands in job records, in `--json` output and in log lines, and programs may branch on it. Messages
say what to do next, and may change.
"""

from typing import Any, ClassVar


class DiffEditError(Exception):
    """Base of everything that this project raises on purpose. Catch it to catch all of them.

    Attributes:
        code: the stable name of this kind of error.
    """

    code: ClassVar[str] = "error"

    def __reduce__(self) -> tuple[Any, ...]:
        # Process pools pickle exceptions. By default an exception is restored by `type(*args)`, but most of ours build
        # their message themselves and take other arguments than the message.
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[DiffEditError], args: tuple[Any, ...], attributes: dict[str, Any]) -> DiffEditError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error


class InvalidRequest(DiffEditError):
    """Raised when an argument is unknown, out of its range, or contradicts another one. Nothing was queued.

    The message names the argument. Correct it.
    """

    code = "invalid_request"


class BadPicture(InvalidRequest):
    """Raised when the picture or the mask cannot be decoded, is too large or too small, or is animated.

    The message says what is wrong with it. Convert or scale the picture.
    """

    code = "bad_picture"


class IdempotencyConflict(InvalidRequest):
    """Raised when the job `job_id` of another request has this idempotency key. Nothing was queued; use another key."""

    code = "idempotency_conflict"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"idempotency_key: job {job_id} of another request has this key; use another key for this one")
        self.job_id = job_id


class UnknownProfile(InvalidRequest):
    """Raised by a worker when no model profile has the name that it should serve. The message lists the known ones."""

    code = "unknown_profile"


class ServiceError(DiffEditError):
    """Raised when a service does not answer. Check the service and its settings, then try again."""

    code = "service_unavailable"


class BrokerUnavailable(ServiceError):
    """Raised when Redis or Valkey does not answer, or refuses the password.

    Check the server and `DIFFEDIT_REDIS_URL`.
    """

    code = "broker_unavailable"


class BrokerFull(BrokerUnavailable):
    """Raised when the memory of Redis or Valkey is full (`maxmemory`), so the job was not queued.

    Raise the limit, or try again after jobs have expired.
    """

    code = "broker_full"

    def __init__(self) -> None:
        super().__init__(
            "the memory of Redis is full (maxmemory), so the job was not queued; raise the limit, or try again later"
        )


class StoreUnavailable(ServiceError):
    """Raised when S3 does not answer. Check `DIFFEDIT_S3_ENDPOINT_URL` and the server, then try again."""

    code = "store_unavailable"


class StoreRefused(StoreUnavailable):
    """Raised when S3 refuses: wrong AWS keys, no such bucket, no permission. Correct the settings first."""

    code = "store_refused"


class QueueFull(DiffEditError):
    """Raised when `DIFFEDIT_MAX_QUEUED` jobs already wait in this lane of the profile. Nothing was queued.

    Try again later, add workers, or raise the limit.
    """

    code = "queue_full"

    def __init__(self, lane: str, profile: str, max_queued: int) -> None:
        super().__init__(
            f"{max_queued} jobs wait in the {lane} lane of profile {profile} already; try again later, add workers, "
            "or raise DIFFEDIT_MAX_QUEUED"
        )


class ArtifactError(DiffEditError):
    """Raised when a stored artifact is missing or damaged. Call the job's `retry()`, which makes it again."""

    code = "bad_artifact"


class ArtifactMissing(ArtifactError):
    """Raised when nothing is stored under a key: the object was deleted, or another bucket holds it."""

    code = "artifact_missing"

    def __init__(self, message: str = "nothing is stored under this key; it was deleted or never made") -> None:
        super().__init__(message)


class LocalError(DiffEditError):
    """Raised by `diffedit up` and `diffedit demo` when a local service cannot start or ends. The message names it."""

    code = "local_services"


class StageError(DiffEditError):
    """Raised by a stage that cannot process its input. The job fails with the code of this error."""

    code = "stage_failed"


class EmptyMask(StageError):
    """Raised when the mask selects nothing.

    Ask for a larger change, lower `mask_thresholding_ratio`, or give a mask.
    """

    code = "empty_mask"


class NotFinite(StageError):
    """Raised when a model returns infinite values or NaN. Nothing of it is stored.

    Run the worker with DIFFEDIT_DTYPE=float32 (for the VAE: DIFFEDIT_VAE_DTYPE=float32), or use another device.

    Attributes:
        model: which model it was, such as "UNet".
        device: the device on which it ran, such as "cuda:0".
        dtype: its number type, such as "float16".
    """

    code = "not_finite"

    def __init__(self, model: str, device: str, dtype: str) -> None:
        super().__init__(
            f"the {model} returned values that are not finite, on {device} in {dtype}; run the worker with "
            "DIFFEDIT_DTYPE=float32 (for the VAE: DIFFEDIT_VAE_DTYPE=float32), or use another device; if it happens to "
            "one job only, ask for less guidance"
        )
        self.model = model
        self.device = device
        self.dtype = dtype


class OutOfMemory(StageError):
    """Raised when the memory of the device is too small for this job, in small batches as well.

    Use a larger device or a smaller profile.
    """

    code = "out_of_memory"

    def __init__(self) -> None:
        super().__init__(
            "the device ran out of memory, with a smaller batch as well; use a larger device or a smaller profile"
        )


class ModelUnavailable(StageError):
    """Raised when a worker cannot load a model of its profile. Read the worker's log."""

    code = "model_unavailable"


class DeviceFailed(StageError):
    """Raised when the device of a worker fails, such as with a CUDA error. The worker's process ends.

    Its jobs go to other workers. Read its log; if it happens again, check the driver and the device.
    """

    code = "device_failed"


class WorkerUnfit(StageError):
    """Raised by a worker that finds that it cannot run stages: its clock is wrong, or a library is missing.

    The worker ends, and its jobs go to other workers. The message says what to repair on its machine.
    """

    code = "worker_unfit"


class JobError(DiffEditError):
    """Base of all errors about one job.

    Attributes:
        job_id: the id of the job.
    """

    code = "job_error"

    def __init__(self, job_id: str, message: str) -> None:
        super().__init__(f"job {job_id}: {message}")
        self.job_id = job_id


class JobNotFound(JobError):
    """Raised when there is no record of the job: it was never submitted to this server, or its record has expired.

    Check the id and `DIFFEDIT_REDIS_URL`. Records are kept for `DIFFEDIT_RETENTION` seconds after the end of a job.
    """

    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "not found; check the id and the Redis URL; records of old jobs expire")


class BadRecord(JobError):
    """Raised when the job's record cannot be read, because it is damaged."""

    code = "bad_record"

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(
            job_id, f"its record cannot be read ({reason}); somebody has changed it; submit the edit again"
        )


class NewerRecord(BadRecord):
    """Raised when a newer version has submitted the job, and it uses what this version does not know.

    Upgrade this program. A worker of that version can run the job.
    """

    code = "newer_record"

    def __init__(self, job_id: str) -> None:
        JobError.__init__(self, job_id, "a newer version of diffedit-service has submitted it; upgrade this program")


class JobElsewhere(JobError):
    """Raised between workers only: another worker runs the job, or the job has already passed this stage."""

    code = "job_elsewhere"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "another worker runs it, or it has already passed this stage; nothing to do")


class JobTimeout(JobError, TimeoutError):
    """Raised when the wait ends before the job does. The job goes on: wait again, or cancel it."""

    code = "job_timeout"


class JobFailed(JobError):
    """Raised by `wait` and `result` when the job has failed. Branch on `error_code`; the message says what to do.

    Attributes:
        stage: the stage that failed; None if the job failed outside of a stage.
        error_code: the code of what went wrong, as in `JobStatus.error.code`. (`code` is always "job_failed".)
        message: what went wrong, for a person.
    """

    code = "job_failed"

    def __init__(self, job_id: str, *, stage: str | None, error_code: str, message: str) -> None:
        super().__init__(job_id, f"failed in stage {stage or '-'} with {error_code}: {message}")
        self.stage = stage
        self.error_code = error_code
        self.message = message


class JobCancelled(JobError):
    """Raised by `wait` and `result` when the job was cancelled. Call `retry()` to submit it again."""

    code = "job_cancelled"

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id, "was cancelled; retry() submits it again")


class JobExpired(JobError):
    """Raised by `wait` and `result` when the job has exceeded its `start_timeout` or its `deadline`.

    Call `retry()` to submit it again, with the same limits.
    """

    code = "job_expired"

    def __init__(self, job_id: str, limit: str = "its time limit") -> None:
        super().__init__(job_id, f"exceeded {limit}; retry() submits it again, with the same limits")


class NoWorkerWarning(UserWarning):
    """Issued when a job was queued that no live worker can run: the job waits. Start a worker for its profile."""


class UnreadableJobsWarning(UserWarning):
    """Issued by `Client.jobs` for jobs whose records are damaged, or need a newer version. The text has their ids."""
