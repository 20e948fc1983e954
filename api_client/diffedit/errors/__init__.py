"""Every error that a user can meet.

    DiffEditError
    |-- InvalidRequest          the request is not valid; raised before anything is queued
    |   |-- BadPicture          the picture or the mask cannot be used
    |   |-- BatchInUse          another process works with the state file of a batch
    |   |-- IdempotencyConflict the key names the job of another request; has job_id
    |   |-- UnknownProfile      there is no such model profile
    |   |-- UnknownPreset       the profile has no such preset
    |   `-- UploadNotFound      the caller has no upload with this key
    |-- ServiceError            a service does not answer
    |   |-- BrokerUnavailable   Redis or Valkey
    |   |   `-- BrokerFull      its memory is full
    |   |-- BrokerDamaged       a key in Redis holds another type than it must
    |   |-- OutputUnavailable   results of a batch cannot be written
    |   |-- DecodingBusy        this process decodes too many pictures at once
    |   |-- ClientBusy          the threads of an AsyncClient make too many calls at once
    |   `-- StoreUnavailable    S3
    |       `-- StoreRefused    it answers and refuses; correct the settings first
    |-- QueueFull               too many jobs wait; try again later
    |-- OwnerLimit              the job would exceed a limit of its owner
    |-- ArtifactError           a stored artifact is missing or damaged
    |   `-- ArtifactMissing
    |-- InvalidKey              the HTTP API does not know this API key
    |-- RateLimited             too many requests with one API key; has retry_after
    |-- LocalError              the services of `diffedit up` and `diffedit demo`
    |   `-- CannotListen        the port of `diffedit serve` is taken, or its address is not ours
    |-- StageError              a stage cannot process its input; the job fails with this code
    |   |-- EmptyMask
    |   |-- TextTooLong         too many tokens for the model
    |   |-- NotFinite
    |   |-- UnreadableArtifact
    |   |-- OutOfMemory
    |   |-- ModelUnavailable
    |   |-- DeviceFailed
    |   `-- WorkerUnfit
    `-- JobError                about one job; has job_id
        |-- JobNotFound
        |   `-- JobLost         Redis has lost its data; the job can be restored
        |-- BadRecord           damaged
        |   `-- NewerRecord     needs a newer version of this program
        |-- JobElsewhere        between workers only: another worker runs the job
        |-- CannotChange        the job does not allow what an administrator asks for
        |-- JobTimeout          the wait has ended, the job has not; also a TimeoutError
        |-- JobFailed           has stage, error_code, message
        |-- JobCancelled
        `-- JobExpired

    NoWorkerWarning             a UserWarning: no live worker can run the job that was queued
    UnreadableJobsWarning       a UserWarning: records that were to be listed cannot be read

`code` is stable: it stands in job records, in `--json` output and in log lines, and programs may branch on it. Messages
say what to do next, and may change.
"""

from diffedit.errors.access import InvalidKey, RateLimited
from diffedit.errors.base import DiffEditError
from diffedit.errors.jobs import (
    BadRecord,
    CannotChange,
    JobCancelled,
    JobElsewhere,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobNotFound,
    JobTimeout,
    NewerRecord,
    NoWorkerWarning,
    UnreadableJobsWarning,
)
from diffedit.errors.requests import (
    BadPicture,
    BatchInUse,
    IdempotencyConflict,
    InvalidRequest,
    OwnerLimit,
    QueueFull,
    UnknownPreset,
    UnknownProfile,
    UploadNotFound,
)
from diffedit.errors.services import (
    ArtifactError,
    ArtifactMissing,
    BrokerDamaged,
    BrokerFull,
    BrokerUnavailable,
    CannotListen,
    ClientBusy,
    DecodingBusy,
    LocalError,
    OutputUnavailable,
    ServiceError,
    StoreRefused,
    StoreUnavailable,
)
from diffedit.errors.stages import (
    DeviceFailed,
    EmptyMask,
    ModelUnavailable,
    NotFinite,
    OutOfMemory,
    StageError,
    TextTooLong,
    UnreadableArtifact,
    WorkerUnfit,
)

__all__ = [
    "ArtifactError",
    "ArtifactMissing",
    "BadPicture",
    "BadRecord",
    "BatchInUse",
    "BrokerDamaged",
    "BrokerFull",
    "BrokerUnavailable",
    "CannotChange",
    "CannotListen",
    "ClientBusy",
    "DecodingBusy",
    "DeviceFailed",
    "DiffEditError",
    "EmptyMask",
    "IdempotencyConflict",
    "InvalidKey",
    "InvalidRequest",
    "JobCancelled",
    "JobElsewhere",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobLost",
    "JobNotFound",
    "JobTimeout",
    "LocalError",
    "ModelUnavailable",
    "NewerRecord",
    "NoWorkerWarning",
    "NotFinite",
    "OutOfMemory",
    "OutputUnavailable",
    "OwnerLimit",
    "QueueFull",
    "RateLimited",
    "ServiceError",
    "StageError",
    "StoreRefused",
    "StoreUnavailable",
    "TextTooLong",
    "UnknownPreset",
    "UnknownProfile",
    "UnreadableArtifact",
    "UnreadableJobsWarning",
    "UploadNotFound",
    "WorkerUnfit",
]
