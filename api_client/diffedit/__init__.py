"""The client: submit edits, follow them, fetch results. It never imports torch, diffusers or transformers.

Public is what this module and `diffedit.testing` export in `__all__`.
"""

from importlib.metadata import version

from diffedit.aio import AsyncClient, AsyncEditResult, AsyncJobHandle
from diffedit.api_keys import Admission, ApiKey, NewApiKey
from diffedit.client import Client
from diffedit.contract.job import ErrorInfo, JobOptions, JobStatus, State
from diffedit.contract.owners import OwnerLimits
from diffedit.contract.request import EditParams, EditRequest, Prompts
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.contract.webhooks import Delivery, DeliveryState, WaitingEvents
from diffedit.decoding import MAX_PIXELS
from diffedit.deletion import Deleted
from diffedit.errors import (
    ArtifactError,
    BadPicture,
    BadRecord,
    BrokerFull,
    BrokerUnavailable,
    DiffEditError,
    IdempotencyConflict,
    InvalidKey,
    InvalidRequest,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobLost,
    JobNotFound,
    JobTimeout,
    NoWorkerWarning,
    OwnerLimit,
    QueueFull,
    RateLimited,
    ServiceError,
    StoreRefused,
    StoreUnavailable,
    UnknownPreset,
    UnreadableJobsWarning,
    UploadNotFound,
)
from diffedit.garbage import Collected
from diffedit.handle import JobHandle
from diffedit.health import Health
from diffedit.jobs.pages import Page
from diffedit.jobs.workers import WorkerInfo
from diffedit.objects.links import UploadUrl
from diffedit.options import EditOptions
from diffedit.pictures import MAX_ASPECT, MAX_PICTURE_BYTES, MIN_SIDE
from diffedit.restoring import Restored
from diffedit.result import EditResult, StoredFile
from diffedit.settings import Settings
from diffedit.uploads import PictureLike

__version__ = version("diffedit-service")
"""The version that is installed, as a text."""

__all__ = [
    "MAX_ASPECT",
    "MAX_PICTURE_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "Admission",
    "ApiKey",
    "Artifact",
    "ArtifactError",
    "AsyncClient",
    "AsyncEditResult",
    "AsyncJobHandle",
    "BadPicture",
    "BadRecord",
    "BrokerFull",
    "BrokerUnavailable",
    "Client",
    "Collected",
    "Deleted",
    "Delivery",
    "DeliveryState",
    "DiffEditError",
    "EditOptions",
    "EditParams",
    "EditRequest",
    "EditResult",
    "ErrorInfo",
    "Health",
    "IdempotencyConflict",
    "InvalidKey",
    "InvalidRequest",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobLost",
    "JobNotFound",
    "JobOptions",
    "JobStatus",
    "JobTimeout",
    "Lane",
    "NewApiKey",
    "NoWorkerWarning",
    "OwnerLimit",
    "OwnerLimits",
    "Page",
    "PictureLike",
    "Prompts",
    "QueueFull",
    "RateLimited",
    "Restored",
    "ServiceError",
    "Settings",
    "Stage",
    "State",
    "StoreRefused",
    "StoreUnavailable",
    "StoredFile",
    "UnknownPreset",
    "UnreadableJobsWarning",
    "UploadNotFound",
    "UploadUrl",
    "WaitingEvents",
    "WorkerInfo",
    "__version__",
]
