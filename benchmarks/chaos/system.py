"""The system that a chaos run acts on: its services and workers, and what the run keeps in mind about them."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

import redis

from benchmarks.chaos.observer import Observer
from benchmarks.chaos.stored_artifacts import stem
from benchmarks.chaos.webhooks import Webhooks
from benchmarks.harness.fault_proxy import FaultProxy
from benchmarks.harness.worker_pool import WorkerPool
from diffedit import Client, JobStatus, Settings
from diffedit.contract.object_keys import ARTIFACTS
from diffedit.jobs.backend import redis_backend
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import S3, VALKEY, LocalServices


@dataclass(frozen=True)
class Fault:
    """One fault, `at` seconds from the start.

    Attributes:
        kind: a key of `KINDS`.
        duration: seconds for which it lasts, if it lasts.
        pick: a number from 0 to 1 that chooses the worker, the job or the artifacts to hit.
    """

    at: float
    kind: str
    duration: float
    pick: float


@dataclass
class System:
    """What faults act on.

    Attributes:
        proxy: between S3 and all clients and workers. The faults themselves go around it.
        webhooks: the receiver and the senders of the events of jobs.
        damaged_keys: the keys of the artifacts that faults damaged, once for each time.
        unchecked_keys: the artifacts that the last release made or may have read. Nothing knows their content.
        sick_workers: how many sick workers were started.
        locks: held by the fault that has stopped this server, or has brought the sick worker.
    """

    stack: LocalServices
    workers: WorkerPool
    observer: Observer
    proxy: FaultProxy
    webhooks: Webhooks
    damaged_keys: list[str] = field(default_factory=list)
    unchecked_keys: set[str] = field(default_factory=set)
    sick_workers: int = 0

    def __post_init__(self) -> None:
        through_proxy = Settings.from_env(self.stack.environment)
        settings = through_proxy.model_copy(update={"s3_endpoint_url": self.proxy.upstream})
        backend = redis_backend(settings)
        self.client = Client(settings)
        self.job_store, self.worker_registry = backend.job_store, backend.worker_registry
        self.object_store = S3ObjectStore(settings)
        self.redis: redis.Redis = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
        self.locks = {VALKEY: threading.Lock(), S3: threading.Lock(), "sick worker": threading.Lock()}
        self._bucket = self.stack.directory / S3 / settings.s3_bucket

    def artifact_keys(self) -> list[str]:
        """Return the keys of all artifacts that are stored, manifests and thumbnails included."""
        return sorted(self._key(path) for path in self._bucket.glob(f"{ARTIFACTS}*/*/*"))

    def is_damaged(self, status: JobStatus | None) -> bool:
        """Return whether a fault has damaged an artifact of this job."""
        damaged = {stem(key) for key in self.damaged_keys}
        return status is not None and any(stem(key) in damaged for key in status.artifact_keys.values())

    def _key(self, path: Path) -> str:
        return str(path.relative_to(self._bucket))
