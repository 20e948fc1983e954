"""The thin client: submit edits, follow them, fetch results. Never imports torch, diffusers or transformers."""

from diffedit.client import Client, Health
from diffedit.contract.job import JobOptions, JobStatus, State
from diffedit.contract.request import EditParams, EditRequest, Prompts
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.errors import (
    ArtifactError,
    BadPicture,
    BadRecord,
    BrokerFull,
    BrokerUnavailable,
    DiffEditError,
    InvalidRequest,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobTimeout,
    NoWorkerWarning,
    QueueFull,
    ServiceError,
    StoreRefused,
    StoreUnavailable,
)
from diffedit.garbage import Collected
from diffedit.handle import JobHandle
from diffedit.jobs.store import WorkerInfo
from diffedit.result import EditResult
from diffedit.settings import Settings

__all__ = [
    "Artifact",
    "ArtifactError",
    "BadPicture",
    "BadRecord",
    "BrokerFull",
    "BrokerUnavailable",
    "Client",
    "Collected",
    "DiffEditError",
    "EditParams",
    "EditRequest",
    "EditResult",
    "Health",
    "InvalidRequest",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "JobOptions",
    "JobStatus",
    "JobTimeout",
    "Lane",
    "NoWorkerWarning",
    "Prompts",
    "QueueFull",
    "ServiceError",
    "Settings",
    "Stage",
    "State",
    "StoreRefused",
    "StoreUnavailable",
    "WorkerInfo",
]
