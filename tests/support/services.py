"""Real services for acceptance tests: what a running stack offers, and workers that a test may start and kill."""

import functools
import os
import signal
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from diffedit import Client, JobHandle, Settings, Stage
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, slow
from tests.support.proxies import FaultProxy
from tests.support.waiting import until, until_status


def client_of(stack: LocalServices, **environment: str) -> Client:
    """Return a client of the stack; `environment` overrides the stack's variables."""
    return Client(Settings.from_env({**stack.environment, **environment}))


def redis_of(stack: LocalServices, **options: Any) -> redis.Redis:
    """Return a connection to the stack's Valkey, for what no client of ours may see or do."""
    return redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"], **options)


def log_of(stack: LocalServices, name: str) -> str:
    """Return everything that the child process `name` has logged."""
    return (stack.directory / "logs" / f"{name}.log").read_text()


def names_of_workers(client: Client) -> set[str]:
    """Return the names of the live workers, without their hosts."""
    return {worker.name.partition("@")[0] for worker in client.health().workers}


def until_on_disk(stack: LocalServices) -> None:
    """Wait until a Valkey that is killed loses nothing. It answers up to two seconds before it writes to its log."""
    server = redis_of(stack)
    until(lambda: server.info("persistence")["aof_buffer_length"] == 0, "Valkey's log")


def cancel_unfinished_jobs(client: Client) -> None:
    """Cancel each job that has not ended, so that the next test finds the workers idle."""
    for status in client.jobs(limit=1000):
        if not status.is_terminal:
            client.job(status.id).cancel()


@contextmanager
def busy_worker(client: Client) -> Iterator[None]:
    """Keep the only worker busy with a long job while the context lasts."""
    blocker = client.edit(PICTURE, **PEAR, **{**slow(), "guidance_scale": 7.5})  # which makes it longer still
    # Between two stages the blocker would count among the jobs that wait.
    until_status(blocker, lambda status: status.stage is Stage.INVERT and status.step > 0, "the worker is busy")
    yield
    blocker.cancel()


class WorkerGroup:
    """Workers that a test may kill, on a stack that has no others.

    Attributes:
        processes: every worker that was started, by name.
    """

    def __init__(self, stack: LocalServices) -> None:
        self.stack = stack
        self.settings = Settings.from_env(stack.environment)
        self.client = Client(self.settings)
        self.processes: dict[str, Process] = {}

    @functools.cached_property
    def redis(self) -> redis.Redis:
        """A connection to the server, if the URL names one."""
        return redis_of(self.stack, decode_responses=True)

    def start(self, count: int = 1, queues: Sequence[str] = (), **environment: str) -> list[Process]:
        """Start `count` workers and wait for their heartbeats; `environment` overrides the stack's variables."""
        names = [f"w{uuid.uuid4().hex[:6]}" for _ in range(count)]
        started = {name: self.stack.start_worker(name, queues, environment=environment) for name in names}
        self.processes |= started
        until(lambda: started.keys() <= names_of_workers(self.client), "the heartbeats of the new workers")
        return list(started.values())

    def process_of(self, job: JobHandle) -> Process:
        """Return the process that runs this job."""
        holder = job.status().worker
        (name,) = [worker.name for worker in self.client.health().workers if worker.id == holder]
        return self.processes[name.partition("@")[0]]

    def kill(self, process: Process) -> None:
        """Kill a worker with SIGKILL and reap it."""
        os.kill(process.pid, signal.SIGKILL)
        self.stack.stop(process)

    def has_logged(self, process: Process, words: str) -> bool:
        """Return whether the log of this worker holds these words."""
        (name,) = [name for name, each in self.processes.items() if each is process]
        return words in log_of(self.stack, name)

    def job_in_stage(self, stage: Stage, **asked: object) -> JobHandle:
        """Submit a long edit and wait until a worker has made at least one step of this stage."""
        job = self.client.edit(PICTURE, **{**PEAR, **slow(), **asked})
        until_status(job, lambda status: status.stage is stage and status.step > 0, f"a step of {stage}")
        return job

    def stop(self) -> None:
        """Cancel each unfinished job and stop each worker."""
        cancel_unfinished_jobs(self.client)
        self.stack.stop(*self.processes.values())


class ProxiedServices:
    """Services whose workers reach S3 through a proxy that injects faults.

    Attributes:
        client: reaches S3 directly.
        proxied_client: reaches S3 through the proxy, as the workers do.
    """

    def __init__(self, stack: LocalServices, proxy: FaultProxy) -> None:
        self.stack, self.proxy = stack, proxy
        settings = Settings.from_env(stack.environment)
        self.object_store = S3ObjectStore(settings)
        self.client = Client(settings)
        self.proxied_client = client_of(stack, DIFFEDIT_S3_ENDPOINT_URL=proxy.url)

    @contextmanager
    def worker(self, **environment: str) -> Iterator[None]:
        """Run a worker behind the proxy while the context lasts. It caches nothing, so it reads what it has stored."""
        workers = WorkerGroup(self.stack)
        proxied = {"DIFFEDIT_S3_ENDPOINT_URL": self.proxy.url, "DIFFEDIT_CACHE_BYTES": "0", "DIFFEDIT_WORKER_TTL": "3"}
        (process,) = workers.start(**{**proxied, **environment})
        yield
        workers.kill(process)  # it is idle, and a warm shutdown takes a while

    def edit(self, **asked: object) -> JobHandle:
        """Submit a short edit for which no artifact exists yet, unless `asked` says otherwise."""
        unseen = {"caption": f"a pear {uuid.uuid4().hex}"}
        return self.client.edit(PICTURE, **{**PEAR, **QUICK, **unseen, **asked})
