"""The doubles behave as the real ones."""

import math
from collections.abc import Callable

import pytest

from diffedit import Settings
from diffedit.contract.job import Job
from diffedit.jobs.backend import DEFAULT_LIMITS
from diffedit.testing import JobBackend, MemoryObjectStore, memory_backend
from tests.support.administration_behaviour import AdministrationBehaviour
from tests.support.api_key_behaviour import ApiKeyBehaviour
from tests.support.async_behaviour import AsyncClientBehaviour
from tests.support.bulk_behaviour import BulkBehaviour
from tests.support.census_behaviour import CensusBehaviour
from tests.support.content_behaviour import ContentBehaviour
from tests.support.idempotency_behaviour import IdempotencyBehaviour
from tests.support.job_store_behaviour import JobStoreBehaviour
from tests.support.listing_behaviour import ListingBehaviour
from tests.support.object_store_behaviour import ObjectStoreBehaviour
from tests.support.owner_behaviour import OwnerBehaviour
from tests.support.queue_behaviour import QueueBehaviour
from tests.support.refusal_behaviour import RefusalBehaviour
from tests.support.rescue_behaviour import RescueBehaviour
from tests.support.stage_behaviour import StageBehaviour
from tests.support.submission_behaviour import SubmissionBehaviour
from tests.support.usage_behaviour import UsageBehaviour
from tests.support.version_behaviour import VersionBehaviour
from tests.support.webhook_behaviour import WebhookBehaviour
from tests.support.worker_behaviour import ArtifactLocksBehaviour, WorkerRegistryBehaviour


class TestMemoryBackend(
    StageBehaviour,
    JobStoreBehaviour,
    ListingBehaviour,
    AdministrationBehaviour,
    IdempotencyBehaviour,
    OwnerBehaviour,
    QueueBehaviour,
    UsageBehaviour,
    RefusalBehaviour,
    RescueBehaviour,
    ContentBehaviour,
    SubmissionBehaviour,
    AsyncClientBehaviour,
    BulkBehaviour,
    VersionBehaviour,
    WorkerRegistryBehaviour,
    ArtifactLocksBehaviour,
    CensusBehaviour,
    ApiKeyBehaviour,
    WebhookBehaviour,
):
    @pytest.fixture
    def make_backend(self) -> Callable[..., JobBackend]:
        return lambda limits=DEFAULT_LIMITS, **settings: memory_backend(Settings(**settings), limits)

    @pytest.fixture
    def rewrite(self) -> Callable[..., None]:
        def rewrite(backend: JobBackend, job: Job, **fields: str | None) -> None:
            record = backend.job_store._state.records[job.id]
            record.update(fields)
            for name in [name for name, value in fields.items() if value is None]:
                del record[name]

        return rewrite

    @pytest.fixture
    def silence(self) -> Callable[[JobBackend], None]:
        def silence(backend: JobBackend) -> None:
            state = backend.job_store._state
            state.heartbeats.clear()
            state.beating_until = -math.inf

        return silence


class TestMemoryObjectStore(ObjectStoreBehaviour):
    @pytest.fixture
    def object_store(self) -> MemoryObjectStore:
        return MemoryObjectStore()
