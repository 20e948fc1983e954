"""The Redis calls, the S3 requests and the bytes of one job, counted in one process that is client and worker."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from benchmarks.harness.environment import PROMPTS, Environment, service_environment
from benchmarks.harness.results import ResultRow
from diffedit import Client, JobHandle, WorkerInfo
from diffedit.contract.job import Job
from diffedit.contract.stages import ModelGroup, queue_name
from diffedit.jobs.backend import JobBackend, redis_backend
from diffedit.jobs.keys import job_key
from diffedit.objects.s3 import S3ObjectStore
from diffedit.objects.store import ObjectStore
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.runtime.runner import Runner

WORKER = "benchmark"


class CountingObjectStore:
    """Counts the requests to an object store, and the bytes that they move.

    Attributes:
        requests: the number of calls by method.
        bytes: the bytes of `put` and `get`.
    """

    def __init__(self, object_store: ObjectStore) -> None:
        self._object_store = object_store
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._object_store, name)

        def counted(key: str, *args: Any) -> Any:
            self.requests[name] += 1
            answer = method(key, *args)
            if name in ("put", "get"):
                self.bytes[name] += len(args[0] if name == "put" else answer)
            return answer

        return counted


def traffic_per_job() -> Iterator[ResultRow]:
    """Count Redis calls, S3 requests and bytes of one job of four stages with the default steps."""
    with service_environment() as env:
        counting = CountingObjectStore(S3ObjectStore(env.settings))
        object_store = cast(ObjectStore, counting)
        backend = redis_backend(env.settings)
        backend.worker_registry.send_heartbeat(
            WorkerInfo(id=WORKER, name=WORKER, profile="tiny", device="cpu", queues=())
        )
        client = Client(env.settings, object_store=object_store)
        job = client.edit((SAMPLES / "06.png").read_bytes(), **PROMPTS)
        message = str(env.redis.lindex(queue_name("tiny", ModelGroup.LANGUAGE), 0))
        scripts = _run_stages(env, backend, object_store, job)
        # All fields: by default Redis extrapolates from a random sample of five.
        record = env.redis.memory_usage(job_key(job.id), samples=0)
    yield ResultRow("Redis calls per job by the worker, default steps", f"{scripts} scripts")
    yield ResultRow("Redis memory of a finished job, bytes", str(record), target="under 4 KB")
    yield ResultRow("size of the queue's message, bytes", str(len(message)), target="under 8 KB")
    requests = ", ".join(f"{count} {name}" for name, count in sorted(counting.requests.items()))
    yield ResultRow("S3 requests per job, client and worker", f"{counting.requests.total()}: {requests}")
    moved = ", ".join(f"{count / 1e3:.0f} KB {name}" for name, count in sorted(counting.bytes.items()))
    yield ResultRow("S3 bytes per job, client and worker", moved)


def _run_stages(env: Environment, backend: JobBackend, object_store: ObjectStore, job: JobHandle) -> int:
    """Run all stages of the job in this process. Return the number of scripts that Redis ran meanwhile."""
    runner = Runner(
        backend.job_store,
        backend.artifact_locks,
        object_store,
        cache(lambda name: Models(load_profiles()[name], device="cpu")),
        worker=WORKER,
        send=lambda job: None,
        cache_bytes=env.settings.cache_bytes,
    )
    current: Job | None = job.status().job
    env.redis.config_resetstat()
    while current and current.stages_left:
        current = runner.run(current.stages_left[0], current.id)
    stats: dict[str, Any] = env.redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])
