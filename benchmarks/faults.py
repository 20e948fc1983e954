"""What can go wrong with a stack of real processes, and a crew of workers that is replaced as a supervisor would."""

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

from benchmarks.witness import Blow, Witness
from diffedit import Client, Settings, State
from diffedit.errors import DiffEditError, ServiceError
from diffedit.jobs.backend import redis_backend
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import S3, VALKEY, Stack

log = logging.getLogger(__name__)

WORKERS = 3
WORKER_TTL = 3.0
LEAVING = 10.0
"""Seconds that a worker gets to leave before it is killed, as container runtimes have it."""


@dataclass(frozen=True)
class Fault:
    """One fault, `at` seconds from the start.

    What is down for a while is so for `lasts` seconds; `pick` (0 to 1) says which of the workers, jobs or artifacts
    there are is hit.
    """

    at: float
    kind: str
    lasts: float
    pick: float


def faults(seed: int, count: int, seconds: float) -> list[Fault]:
    """All kinds equally often, in random order, at random times."""
    rng = random.Random(f"faults {seed}")
    kinds = [kind for _ in range(math.ceil(count / len(KINDS))) for kind in rng.sample(list(KINDS), len(KINDS))]
    times = sorted(rng.uniform(0, seconds) for _ in range(count))
    # Of the frozen workers, one in three is back before it counts as dead.
    return [
        Fault(at, kind, rng.uniform(0.5, 3 * WORKER_TTL), rng.random()) for at, kind in zip(times, kinds, strict=False)
    ]


class Crew:
    """The workers. One that ends is replaced; `crashes` names those that nobody meant to end."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._hired = 0
        self._members = [self._hire() for _ in range(WORKERS)]
        self.doomed: set[Process] = set()
        self.crashes: list[str] = []

    def member(self, pick: float) -> tuple[str, Process]:
        return self._members[int(pick * WORKERS)]

    def supervise(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            for place, (name, process) in enumerate(self._members):
                if process.poll() is not None:
                    if process not in self.doomed:
                        self.crashes.append(name)
                    self._stack.stop(process)
                    self._members[place] = self._hire()

    def _hire(self) -> tuple[str, Process]:
        # Each with a name of its own, and so with its own log and announcement.
        self._hired += 1
        name = f"w{self._hired}"
        return name, self._stack.start_worker(name)


class Havoc:
    """Strikes. A fault is a method that returns when the fault is over, and says whether there was anything to hit.

    Attributes:
        struck: the kinds of the faults that hit something.
        spoilt: the keys of the artifacts that were deleted or damaged, as often as they were.
    """

    def __init__(self, stack: Stack, crew: Crew, witness: Witness) -> None:
        settings = Settings.from_env(stack.environment)
        self._stack, self._crew, self._witness = stack, crew, witness
        self._client, self._object_store = Client(settings), S3ObjectStore(settings)
        backend = redis_backend(settings)
        self._job_store, self._worker_registry = backend.job_store, backend.worker_registry
        self._redis = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
        self._locks = {VALKEY: threading.Lock(), S3: threading.Lock()}
        self.struck: list[str] = []
        self.spoilt: list[str] = []

    def strike(self, fault: Fault) -> None:
        log.info("%s (%.1f s)", fault.kind, fault.lasts)
        # What another fault has taken down cannot be hit.
        with suppress(ServiceError, redis.RedisError):
            if KINDS[fault.kind](self, fault):
                self.struck.append(fault.kind)

    def kill_worker(self, fault: Fault) -> bool:
        return self._signal(fault, signal.SIGKILL) is not None

    def stop_worker(self, fault: Fault) -> bool:
        process = self._signal(fault, signal.SIGTERM)
        if process:
            with suppress(TimeoutExpired):
                process.wait(LEAVING)
            process.kill()
        return process is not None

    def freeze_worker(self, fault: Fault) -> bool:
        process = self._signal(fault, signal.SIGSTOP)
        if process:
            time.sleep(fault.lasts)
            process.send_signal(signal.SIGCONT)
        return process is not None

    def _signal(self, fault: Fault, number: signal.Signals) -> Process | None:
        """Hit a worker, and have the witness watch what becomes of its job."""
        name, process = self._crew.member(fault.pick)
        if process.poll() is not None:
            return None
        if number != signal.SIGSTOP:
            self._crew.doomed.add(process)
        worker, held = "", []
        with suppress(ServiceError):
            worker = "".join(each.id for each in self._worker_registry.workers() if each.name.partition("@")[0] == name)
            held = self._job_store.jobs_held_by(worker)
        process.send_signal(number)
        for job_id in held:
            log.info("%s held job %s", name, job_id)
            with suppress(ServiceError):
                frozen = self._job_store.status(job_id) if number == signal.SIGSTOP else None
                self._witness.blows.append(Blow(job_id, worker, time.monotonic(), frozen))
        return process

    def kill_valkey(self, fault: Fault) -> bool:
        with self._down(VALKEY) as process:
            process.kill()
            time.sleep(fault.lasts)
        return True

    def restart_valkey(self, fault: Fault) -> bool:
        with self._down(VALKEY) as process:
            process.terminate()
        return True

    def stop_s3(self, fault: Fault) -> bool:
        with self._down(S3) as process:
            process.terminate()
            time.sleep(fault.lasts)
        return True

    @contextmanager
    def _down(self, server: str) -> Iterator[Process]:
        """One fault at a time for each server, which is started again afterwards."""
        with self._locks[server]:
            process = self._stack.processes[server]
            yield process
            process.wait()
            (self._stack.start_valkey if server == VALKEY else self._stack.start_s3)()

    def freeze_s3(self, fault: Fault) -> bool:
        with self._locks[S3]:
            process = self._stack.processes[S3]
            process.send_signal(signal.SIGSTOP)
            time.sleep(fault.lasts)
            process.send_signal(signal.SIGCONT)
        return True

    def wipe_queues(self, fault: Fault) -> bool:
        queues = self._queues()
        return bool(queues) and bool(self._redis.delete(*queues))

    def double_messages(self, fault: Fault) -> bool:
        messages = {queue: found for queue in self._queues() if (found := self._redis.lrange(queue, 0, -1))}
        for queue, found in messages.items():
            self._redis.lpush(queue, *found)
        return bool(messages)

    def _queues(self) -> list[str]:
        return [str(key) for key in self._redis.scan_iter("diffedit.*", _type="list")]

    def delete_artifacts(self, fault: Fault) -> bool:
        return self._spoil(fault, self._object_store.delete)

    def truncate_artifacts(self, fault: Fault) -> bool:
        def truncate(key: str) -> None:
            data = self._object_store.get(key)
            self._object_store.put(key, data[: len(data) // 2])

        return self._spoil(fault, truncate)

    def _spoil(self, fault: Fault, how: Callable[[str], None]) -> bool:
        """Some artifacts of any kind; never `inputs/`, which are the user's own.

        Through S3, as anybody else with access to the bucket: its server does not see what is done to its files.
        """
        bucket = self._stack.directory / S3 / "diffedit"
        keys = sorted(str(path.relative_to(bucket)) for path in bucket.glob("artifacts/*/*/*"))
        chosen = random.Random(fault.pick).sample(keys, min(5, len(keys)))
        for key in chosen:
            log.info("spoils %s", key)
            self.spoilt.append(key)
            with suppress(DiffEditError):  # it has just gone by itself, or S3 is down
                how(key)
        return bool(chosen)

    def cancel_job(self, fault: Fault) -> bool:
        jobs = self._witness.open
        if not jobs:
            return False
        job_id = jobs[int(fault.pick * len(jobs))]
        if self._client.job(job_id).cancel():
            # A promise to the user, so it counts as seen.
            self._witness.ends[job_id].add(State.CANCELLED)
        return True


KINDS: dict[str, Callable[[Havoc, Fault], bool]] = {
    "worker killed": Havoc.kill_worker,
    "worker asked to leave": Havoc.stop_worker,
    "worker frozen": Havoc.freeze_worker,
    "Valkey killed": Havoc.kill_valkey,
    "Valkey restarted": Havoc.restart_valkey,
    "S3 gone": Havoc.stop_s3,
    "S3 frozen": Havoc.freeze_s3,
    "queues wiped": Havoc.wipe_queues,
    "messages doubled": Havoc.double_messages,
    "artifacts deleted": Havoc.delete_artifacts,
    "artifacts truncated": Havoc.truncate_artifacts,
    "job cancelled": Havoc.cancel_job,
}
