"""The six interfaces together, over Redis or in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diffedit.api_keys import ApiKeyStore
from diffedit.jobs.census import Census
from diffedit.jobs.memory_api_keys import MemoryApiKeyStore
from diffedit.jobs.memory_census import MemoryCensus
from diffedit.jobs.memory_outbox import MemoryOutbox
from diffedit.jobs.memory_state import MemoryState
from diffedit.jobs.memory_store import MemoryJobStore
from diffedit.jobs.memory_workers import MemoryArtifactLocks, MemoryWorkerRegistry
from diffedit.jobs.outbox import Outbox
from diffedit.jobs.redis_api_keys import RedisApiKeyStore
from diffedit.jobs.redis_census import RedisCensus
from diffedit.jobs.redis_outbox import RedisOutbox
from diffedit.jobs.redis_server import RedisServer
from diffedit.jobs.redis_store import RedisJobStore
from diffedit.jobs.redis_workers import RedisArtifactLocks, RedisWorkerRegistry
from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import ArtifactLocks, WorkerLimits, WorkerRegistry
from diffedit.retries import CLIENT_REDIS_POLICY, RedisPolicy
from diffedit.settings import Settings

DEFAULT_LIMITS = WorkerLimits()


@dataclass(frozen=True)
class JobBackend:
    """Where jobs are recorded.

    Attributes:
        close: closes its connections.
        warnings: says what to correct in the configuration of the server, although jobs run.
    """

    job_store: JobStore
    worker_registry: WorkerRegistry
    artifact_locks: ArtifactLocks
    api_keys: ApiKeyStore
    outbox: Outbox
    census: Census
    close: Callable[[], object] = lambda: None
    warnings: Callable[[], Sequence[str]] = tuple


def redis_backend(
    settings: Settings, limits: WorkerLimits = DEFAULT_LIMITS, policy: RedisPolicy = CLIENT_REDIS_POLICY
) -> JobBackend:
    """Return the backend in the Redis or Valkey of these settings. Nothing is connected yet.

    Only workers need `limits`. `policy` says how often and how long a command is sent again without an answer.
    """
    server = RedisServer(settings, policy)
    store, registry = RedisJobStore(server, settings, limits), RedisWorkerRegistry(server, limits)
    locks, api_keys = RedisArtifactLocks(server, limits), RedisApiKeyStore(server)
    return JobBackend(
        store, registry, locks, api_keys, RedisOutbox(server), RedisCensus(server), server.close, server.warnings
    )


def memory_backend(settings: Settings | None = None, limits: WorkerLimits = DEFAULT_LIMITS) -> JobBackend:
    """Return a backend in the memory of this process, for tests."""
    state = MemoryState(settings or Settings(), limits)
    job_store = MemoryJobStore(state)
    return JobBackend(
        job_store,
        MemoryWorkerRegistry(state),
        MemoryArtifactLocks(state),
        MemoryApiKeyStore(),
        MemoryOutbox(state),
        MemoryCensus(state, job_store),
    )
