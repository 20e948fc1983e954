"""The client: submit edits, follow them, fetch results. It never imports torch, diffusers or transformers.

Public is what this module and `diffedit.testing` export in `__all__`. Each name is imported when it is used for the
first time, with all that it needs: `diffedit alive`, which a probe starts every few seconds, needs none of them.
"""

TYPE_CHECKING = False  # as in `typing`, whose import would take longer than all else here
if TYPE_CHECKING:
    from diffedit.admin import Admin, Changed, Explanation, JobQuery, QueueState
    from diffedit.aio import AsyncClient
    from diffedit.api_keys import Admission, ApiKey, NewApiKey
    from diffedit.async_admin import AsyncAdmin
    from diffedit.async_handle import AsyncEditResult, AsyncJobHandle
    from diffedit.client import Client
    from diffedit.contract.job import ErrorInfo, JobOptions, JobStatus, State
    from diffedit.contract.owners import OwnerLimits
    from diffedit.contract.request import EditParams, EditRequest, Prompts
    from diffedit.contract.stages import Artifact, Lane, Stage
    from diffedit.contract.usage import Usage
    from diffedit.contract.webhooks import Delivery, DeliveryState, WaitingEvents
    from diffedit.decoding import MAX_PIXELS
    from diffedit.deletion import Deleted
    from diffedit.errors import (
        ArtifactError,
        BadPicture,
        BadRecord,
        BrokerFull,
        BrokerUnavailable,
        CannotChange,
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
    from diffedit.jobs.queues import Pause
    from diffedit.jobs.workers import WorkerInfo
    from diffedit.objects.links import UploadUrl
    from diffedit.options import EditOptions
    from diffedit.pictures import MAX_ASPECT, MAX_PICTURE_BYTES, MIN_SIDE
    from diffedit.restoring import Restored
    from diffedit.result import EditResult, StoredFile
    from diffedit.settings import Settings
    from diffedit.uploads import PictureLike

__version__: str
"""The version that is installed, as a text."""

__all__ = [
    "MAX_ASPECT",
    "MAX_PICTURE_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "Admin",
    "Admission",
    "ApiKey",
    "Artifact",
    "ArtifactError",
    "AsyncAdmin",
    "AsyncClient",
    "AsyncEditResult",
    "AsyncJobHandle",
    "BadPicture",
    "BadRecord",
    "BrokerFull",
    "BrokerUnavailable",
    "CannotChange",
    "Changed",
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
    "Explanation",
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
    "JobQuery",
    "JobStatus",
    "JobTimeout",
    "Lane",
    "NewApiKey",
    "NoWorkerWarning",
    "OwnerLimit",
    "OwnerLimits",
    "Page",
    "Pause",
    "PictureLike",
    "Prompts",
    "QueueFull",
    "QueueState",
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
    "Usage",
    "WaitingEvents",
    "WorkerInfo",
    "__version__",
]

_NAMES = {
    "diffedit.admin": "Admin Changed Explanation JobQuery QueueState",
    "diffedit.aio": "AsyncClient",
    "diffedit.api_keys": "Admission ApiKey NewApiKey",
    "diffedit.async_admin": "AsyncAdmin",
    "diffedit.async_handle": "AsyncEditResult AsyncJobHandle",
    "diffedit.client": "Client",
    "diffedit.contract.job": "ErrorInfo JobOptions JobStatus State",
    "diffedit.contract.owners": "OwnerLimits",
    "diffedit.contract.request": "EditParams EditRequest Prompts",
    "diffedit.contract.stages": "Artifact Lane Stage",
    "diffedit.contract.usage": "Usage",
    "diffedit.contract.webhooks": "Delivery DeliveryState WaitingEvents",
    "diffedit.decoding": "MAX_PIXELS",
    "diffedit.deletion": "Deleted",
    "diffedit.errors": (
        "ArtifactError BadPicture BadRecord BrokerFull BrokerUnavailable CannotChange DiffEditError "
        "IdempotencyConflict InvalidKey InvalidRequest JobCancelled JobError JobExpired JobFailed JobLost "
        "JobNotFound JobTimeout NoWorkerWarning OwnerLimit QueueFull RateLimited ServiceError StoreRefused "
        "StoreUnavailable UnknownPreset UnreadableJobsWarning UploadNotFound"
    ),
    "diffedit.garbage": "Collected",
    "diffedit.handle": "JobHandle",
    "diffedit.health": "Health",
    "diffedit.jobs.pages": "Page",
    "diffedit.jobs.queues": "Pause",
    "diffedit.jobs.workers": "WorkerInfo",
    "diffedit.objects.links": "UploadUrl",
    "diffedit.options": "EditOptions",
    "diffedit.pictures": "MAX_ASPECT MAX_PICTURE_BYTES MIN_SIDE",
    "diffedit.restoring": "Restored",
    "diffedit.result": "EditResult StoredFile",
    "diffedit.settings": "Settings",
    "diffedit.uploads": "PictureLike",
}
"""The names that each module has, as above."""
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker would take any name for one that is here

    def __getattr__(name: str) -> object:
        """Import a public name, and keep it. Called for a name that is not here yet."""
        if name == "__version__":
            from importlib.metadata import version

            value = version("diffedit-service")
        elif name in _MODULE_OF:
            from importlib import import_module

            value = getattr(import_module(_MODULE_OF[name]), name)
        else:
            raise AttributeError(f"module 'diffedit' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
