"""Jobs of many owners in one queue, and simulated workers that serve them, on a real Valkey."""

import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.harness.environment import PROMPTS, SIMULATED_WORKER, Environment, service_environment
from benchmarks.harness.waiting import wait_until
from diffedit import NoWorkerWarning, OwnerLimits
from diffedit.contract.job import Job, JobOptions
from diffedit.contract.request import EditRequest
from diffedit.contract.stages import queue_names
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.keys import OPEN
from diffedit.jobs.workers import WorkerInfo, WorkerLimits

TIMEOUT = 1800.0
OLD_RELEASE = WorkerInfo(
    id="0.2.0", name="0.2.0@nowhere", profile="tiny", device="cpu", queues=queue_names("tiny"), contract=1
)
"""While it is announced, no message is held back: the queue is first in, first out, as before."""


@dataclass
class Fleet:
    """The services with one queue of jobs. Nothing is served until `serve`."""

    env: Environment
    request: EditRequest
    fifo: bool
    loads: Mapping[str, int]
    seeds: int = 0

    def submit(self, owner: str, jobs: int = 1) -> str:
        """Submit jobs of this owner whose artifacts do not exist yet. Return the id of the last one."""
        store = redis_backend(self.env.settings).job_store
        for _ in range(jobs):
            self.seeds += 1
            params = self.request.params.model_copy(update={"seed": self.seeds})
            request = self.request.model_copy(update={"params": params})
            job = Job(id=uuid.uuid4().hex, request=request, options=JobOptions(owner=owner))
            store.create_job(job, send=True)
        return job.id

    def served(self) -> dict[str, int]:
        """Return how many jobs of each owner have ended."""
        return {owner: jobs - int(self.env.redis.zcard(OPEN + owner)) for owner, jobs in self.loads.items()}

    def announce(self) -> None:
        """Announce the old release, if this fleet is to serve first in, first out."""
        if self.fifo:
            backend = redis_backend(self.env.settings, WorkerLimits(worker_ttl=TIMEOUT))
            backend.worker_registry.send_heartbeat(OLD_RELEASE)
            backend.job_store.tend_queues()


@contextmanager
def fleet(loads: Mapping[str, int], weights: Mapping[str, float], *, fifo: bool) -> Iterator[Fleet]:
    """Submit the jobs of all owners, one owner after the other."""
    with service_environment(SIMULATED_SECONDS="0") as env, warnings.catch_warnings():
        warnings.simplefilter("ignore", NoWorkerWarning)
        env.settings = env.settings.model_copy(update={"max_queued": 10**6})
        first = env.client.edit(env.new_picture(), **PROMPTS)
        made = Fleet(env, first.status().request, fifo, loads)
        first.cancel()
        made.announce()
        for owner, weight in weights.items():
            env.client.set_owner_limits(owner, OwnerLimits(weight=weight))
        for owner, jobs in loads.items():
            made.submit(owner, jobs)
        yield made


def serve(made: Fleet, jobs: int, workers: int) -> dict[str, int]:
    """Let workers serve until so many jobs have ended. Return those of each owner."""
    made.env.start_workers(workers, SIMULATED_WORKER)
    made.announce()
    served: dict[str, int] = {}

    def enough() -> bool:
        made.env.stack.check()
        served.update(made.served())
        return sum(served.values()) >= jobs

    if not wait_until(enough, TIMEOUT, interval=0.05):
        raise TimeoutError(f"only {sum(served.values())} of {jobs} jobs have ended")
    return served


def jobs_before(made: Fleet, owner: str, big: str) -> int:
    """Submit a job of `owner` while `big` has many. Return how many jobs of `big` end before it does."""
    before = made.served()[big]
    job = made.env.client.job(made.submit(owner))
    deadline = time.monotonic() + TIMEOUT
    while not job.status().is_terminal:
        assert time.monotonic() < deadline, "the job never ends"
        time.sleep(0.005)
    return made.served()[big] - before
