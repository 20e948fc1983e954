"""The thin client: submit edits, follow them, fetch results. Never imports torch, diffusers or transformers."""

from api_client.board import WorkerInfo
from api_client.client import Client, Health
from api_client.contract import EditParams, EditRequest, JobStatus, Lane, Prompts, Slot, Stage, State, Terms
from api_client.errors import (
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
from api_client.garbage import Collected
from api_client.handle import JobHandle
from api_client.result import EditResult
from api_client.settings import Settings

__all__ = [
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
    "JobStatus",
    "JobTimeout",
    "Lane",
    "NoWorkerWarning",
    "Prompts",
    "QueueFull",
    "ServiceError",
    "Settings",
    "Slot",
    "Stage",
    "State",
    "StoreRefused",
    "StoreUnavailable",
    "Terms",
    "WorkerInfo",
]
