"""The faults of a chaos run: their schedule, drawn from a seed, and how each one is injected."""

import logging
import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from subprocess import TimeoutExpired

import redis

from benchmarks.chaos.observer import Observer, WorkerFault
from benchmarks.harness.worker_pool import WorkerPool
from diffedit import Client, Settings, State
from diffedit.contract.stages import queue_names
from diffedit.errors import DiffEditError, ServiceError
from diffedit.jobs.backend import redis_backend
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import S3, VALKEY, Stack

log = logging.getLogger(__name__)

WORKER_TTL = 3.0
STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL, as in container runtimes."""


@dataclass(frozen=True)
class Fault:
    """One fault, `at` seconds from the start.

    Attributes:
        kind: a key of `KINDS`.
        duration: seconds for which a server is down, or a process is frozen.
        pick: a number from 0 to 1 that chooses the worker, the job or the artifacts to hit.
    """

    at: float
    kind: str
    duration: float
    pick: float


def schedule_faults(seed: int, count: int, seconds: float) -> list[Fault]:
    """Return `count` faults at random times within `seconds`. All kinds are equally frequent."""
    rng = random.Random(f"faults {seed}")
    kinds = [kind for _ in range(math.ceil(count / len(KINDS))) for kind in rng.sample(list(KINDS), len(KINDS))]
    times = sorted(rng.uniform(0, seconds) for _ in range(count))
    # One in three frozen workers continues before its heartbeat expires.
    return [
        Fault(at, kind, rng.uniform(0.5, 3 * WORKER_TTL), rng.random()) for at, kind in zip(times, kinds, strict=False)
    ]


class FaultInjector:
    """Injects faults. Each method for a kind of fault returns, when it is over, whether there was anything to hit.

    Attributes:
        injected: the kinds of the faults that hit something.
        damaged_keys: the keys of the artifacts that were deleted or truncated, once for each time.
    """

    def __init__(self, stack: Stack, workers: WorkerPool, observer: Observer) -> None:
        settings = Settings.from_env(stack.environment)
        self._stack, self._workers, self._observer = stack, workers, observer
        self._client = Client(settings)
        backend = redis_backend(settings)
        self._job_store, self._worker_registry = backend.job_store, backend.worker_registry
        self._object_store = S3ObjectStore(settings)
        self._bucket = stack.directory / S3 / settings.s3_bucket
        self._redis = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
        self._locks = {VALKEY: threading.Lock(), S3: threading.Lock()}
        self.injected: list[str] = []
        self.damaged_keys: list[str] = []

    def inject(self, fault: Fault) -> None:
        """Inject the fault and wait until it is over."""
        log.info("%s (%.1f s)", fault.kind, fault.duration)
        # A fault that needs a server cannot be injected while another fault has stopped that server.
        with suppress(ServiceError, redis.RedisError):
            if KINDS[fault.kind](self, fault):
                self.injected.append(fault.kind)

    def kill_worker(self, fault: Fault) -> bool:
        return self._signal_worker(fault, signal.SIGKILL) is not None

    def stop_worker(self, fault: Fault) -> bool:
        process = self._signal_worker(fault, signal.SIGTERM)
        if process:
            with suppress(TimeoutExpired):
                process.wait(STOP_GRACE)
            process.kill()
        return process is not None

    def freeze_worker(self, fault: Fault) -> bool:
        process = self._signal_worker(fault, signal.SIGSTOP)
        if process:
            time.sleep(fault.duration)
            process.send_signal(signal.SIGCONT)
        return process is not None

    def _signal_worker(self, fault: Fault, number: signal.Signals) -> Process | None:
        """Send a signal to a worker, and let the observer watch the job that it holds."""
        name, process = self._workers.pick(fault.pick)
        if process.poll() is not None:
            return None
        if number != signal.SIGSTOP:
            self._workers.stopped_on_purpose.add(process)
        worker_id, held = "", []
        with suppress(ServiceError):
            worker_id = "".join(
                worker.id for worker in self._worker_registry.workers() if worker.name.partition("@")[0] == name
            )
            held = self._job_store.jobs_held_by(worker_id)
        process.send_signal(number)
        for job_id in held:
            log.info("%s held job %s", name, job_id)
            with suppress(ServiceError):
                frozen = self._job_store.status(job_id) if number == signal.SIGSTOP else None
                self._observer.worker_faults.append(WorkerFault(job_id, worker_id, time.monotonic(), frozen))
        return process

    def kill_valkey(self, fault: Fault) -> bool:
        with self._restarted_afterwards(VALKEY) as process:
            process.kill()
            time.sleep(fault.duration)
        return True

    def restart_valkey(self, fault: Fault) -> bool:
        with self._restarted_afterwards(VALKEY) as process:
            process.terminate()
        return True

    def stop_s3(self, fault: Fault) -> bool:
        with self._restarted_afterwards(S3) as process:
            process.terminate()
            time.sleep(fault.duration)
        return True

    @contextmanager
    def _restarted_afterwards(self, server: str) -> Iterator[Process]:
        """Allow one fault at a time for this server, and start the server again at the end."""
        with self._locks[server]:
            process = self._stack.processes[server]
            yield process
            process.wait()
            (self._stack.start_valkey if server == VALKEY else self._stack.start_s3)()

    def freeze_s3(self, fault: Fault) -> bool:
        with self._locks[S3]:
            process = self._stack.processes[S3]
            process.send_signal(signal.SIGSTOP)
            time.sleep(fault.duration)
            process.send_signal(signal.SIGCONT)
        return True

    def delete_queues(self, fault: Fault) -> bool:
        return bool(self._redis.delete(*queue_names("tiny")))

    def duplicate_messages(self, fault: Fault) -> bool:
        queues = {queue: self._redis.lrange(queue, 0, -1) for queue in queue_names("tiny")}
        for queue, messages in queues.items():
            if messages:
                self._redis.lpush(queue, *messages)
        return any(queues.values())

    def delete_artifacts(self, fault: Fault) -> bool:
        return self._damage_artifacts(fault, self._object_store.delete)

    def truncate_artifacts(self, fault: Fault) -> bool:
        def truncate(key: str) -> None:
            data = self._object_store.get(key)
            self._object_store.put(key, data[: len(data) // 2])

        return self._damage_artifacts(fault, truncate)

    def _damage_artifacts(self, fault: Fault, damage: Callable[[str], None]) -> bool:
        """Damage up to five artifacts of any kind, but no uploaded picture, which nothing could make again.

        The damage is done through S3, because the server does not notice changes of its files.
        """
        keys = sorted(str(path.relative_to(self._bucket)) for path in self._bucket.glob("artifacts/*/*/*"))
        chosen = random.Random(fault.pick).sample(keys, min(5, len(keys)))
        for key in chosen:
            log.info("damaging %s", key)
            self.damaged_keys.append(key)
            # The artifact may have just disappeared, or S3 may be down.
            with suppress(DiffEditError):
                damage(key)
        return bool(chosen)

    def cancel_job(self, fault: Fault) -> bool:
        jobs = self._observer.unfinished_jobs
        if not jobs:
            return False
        job_id = jobs[int(fault.pick * len(jobs))]
        if self._client.job(job_id).cancel():
            # The client promises this outcome to the user, so it counts as seen.
            self._observer.outcomes[job_id].add(State.CANCELLED)
        return True


KINDS: dict[str, Callable[[FaultInjector, Fault], bool]] = {
    "worker killed": FaultInjector.kill_worker,
    "worker stopped": FaultInjector.stop_worker,
    "worker frozen": FaultInjector.freeze_worker,
    "Valkey killed": FaultInjector.kill_valkey,
    "Valkey restarted": FaultInjector.restart_valkey,
    "S3 stopped": FaultInjector.stop_s3,
    "S3 frozen": FaultInjector.freeze_s3,
    "queues deleted": FaultInjector.delete_queues,
    "messages duplicated": FaultInjector.duplicate_messages,
    "artifacts deleted": FaultInjector.delete_artifacts,
    "artifacts truncated": FaultInjector.truncate_artifacts,
    "job cancelled": FaultInjector.cancel_job,
}
"""The kinds of faults. The order is part of the schedule of a seed."""
