"""What a job costs Valkey when it is never idle: the calls of recorded jobs, over many connections at the same time.

`valkey_cost` runs real workers, which cannot keep Valkey busy on two cores. A call then costs several times as much,
because it wakes the server. How many jobs one server can hold depends on what a call costs when others wait already.

The calls are those of the job store, the locks and kombu. They are recorded while jobs run one after the other, without
workers, models and S3, and then sent again, byte by byte, to an empty server. Each connection waits for its answer.
"""

import itertools
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from inspect import signature
from typing import Any, cast
from unittest.mock import patch
from uuid import uuid4

import redis
from redis.connection import AbstractConnection

from benchmarks.harness.environment import PROMPTS, Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement
from diffedit.contract.content import content_of
from diffedit.contract.job import Job, JobOptions
from diffedit.contract.object_keys import artifact_key, input_key
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, Stage, queue_names
from diffedit.jobs.backend import JobBackend, redis_backend

PROFILE, WORKER = "tiny", uuid4().hex
PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
LISTS = [f"{queue}{priority}" for priority in PRIORITIES for queue in queue_names(PROFILE)]
"""The lists that a worker of kombu's waits for."""
PICTURE = input_key(b"", "png")
CONTENT = content_of(b"")
BUFFER = 2**20
"""Bytes of an answer at most. Valkey writes one at once, so it arrives at once, too."""


def valkey_load(jobs: int = 1000, connections: int = 100) -> Iterator[ResultRow]:
    """Measure jobs of four stages that nothing is cached for, without progress reports and with ten."""
    with service_environment() as env:
        silent, seconds = cost_of_jobs(env, jobs, connections, reports=0)
        reporting, _ = cost_of_jobs(env, jobs, connections, reports=10)
    yield ResultRow(
        f"CPU time of Valkey per job of four stages, {connections} connections that are always busy",
        measurement(1000 * silent, "{} ms"),
        target="1.0 ms or less",
    )
    yield ResultRow("  per progress report", measurement(1000 * (reporting - silent) / 10, "{} ms", 3))
    yield ResultRow("  jobs", measurement(1 / seconds, "{} a second", digits=0))


def cost_of_jobs(env: Environment, jobs: int, connections: int, reports: int) -> tuple[float, float]:
    """Return the seconds of Valkey's CPU time and the seconds for each job."""
    settings = env.settings.model_copy(update={"max_queued": 2 * jobs})
    backend = redis_backend(settings)
    run_job(backend, env.redis, reports)  # connects, and loads the scripts
    recorded = [calls_of_job(backend, env.redis, reports) for _ in range(jobs)]
    env.redis.flushall()
    before, began = cpu_seconds(env), time.perf_counter()
    replay(env, recorded, connections)
    seconds, cpu = time.perf_counter() - began, cpu_seconds(env) - before
    done = len(env.client.jobs("succeeded", limit=jobs))
    assert done == jobs, f"{done} of {jobs} jobs have succeeded"
    return cpu / jobs, seconds / jobs


def cpu_seconds(env: Environment) -> float:
    cpu = env.redis.info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


def new_job(owner: str | None) -> Job:
    request = EditRequest(image=PICTURE, params=EditParams(profile=PROFILE), **PROMPTS)
    return Job(id=uuid4().hex, request=request, options=JobOptions(owner=owner))


def run_job(backend: JobBackend, kombu: redis.Redis, reports: int, owner: str | None = None) -> None:
    """Do with a new job what `Client.edit` and `Runner.run` do, except for computing it. Its last stage reports."""
    backend.worker_registry.workers()
    job = new_job(owner)
    backend.job_store.create_job(job, pixels=4096, send=True)
    complete_stage: Callable[..., object] = backend.job_store.complete_stage
    if "device_seconds" in signature(complete_stage).parameters:  # an older checkout has none (`valkey_ratio`)
        complete_stage = partial(complete_stage, device_seconds=1.0)
    for stage in job.stages_left:
        kombu.brpop(LISTS, 1)
        backend.job_store.start_stage(job.id, stage, WORKER)
        for step in range(reports if stage is Stage.EDIT else 0):
            backend.job_store.report_step(job.id, step, reports, WORKER)
        keys = {artifact: new_key(artifact) for artifact in stage.gives}
        backend.artifact_locks.acquire(list(keys.values()), job.id, WORKER)
        job = job.with_artifacts(keys, dict.fromkeys(keys, CONTENT))
        complete_stage(job, stage, 1.0, list(keys), WORKER, send=True)


def new_key(artifact: Artifact) -> str:
    extension = "png" if artifact in (Artifact.MASK, Artifact.RESULT) else "safetensors"
    return artifact_key(artifact.value, sha256(uuid4().bytes).hexdigest(), extension)


def calls_of_job(backend: JobBackend, kombu: redis.Redis, reports: int) -> list[bytes]:
    """Run a job. Return what is sent to Redis for it."""
    calls: list[bytes] = []
    send = AbstractConnection.send_packed_command

    def record(connection: AbstractConnection, command: Any, check_health: bool = True) -> None:
        calls.append(command if isinstance(command, bytes) else b"".join(command))
        send(connection, command, check_health)  # type: ignore[no-untyped-call]

    with patch.object(AbstractConnection, "send_packed_command", record):
        run_job(backend, kombu, reports)
    return calls


def replay(env: Environment, jobs: Sequence[Sequence[bytes]], connections: int) -> None:
    """Send the calls of all jobs, so many jobs at a time. Raises RuntimeError if one of them is refused."""
    server = env.redis.connection_pool.connection_kwargs
    waiting = (iter(job) for job in jobs)
    with selectors.DefaultSelector() as selector, ExitStack() as sockets:
        for job in itertools.islice(waiting, connections):
            sock = sockets.enter_context(socket.create_connection((server["host"], server["port"])))
            sock.sendall(f"AUTH {server['password']}\r\n".encode())
            assert sock.recv(BUFFER) == b"+OK\r\n"
            selector.register(sock, selectors.EVENT_READ, job)
            sock.sendall(next(job))
        while selector.get_map():
            for key, _ in selector.select():
                sock = cast(socket.socket, key.fileobj)
                if (answer := sock.recv(BUFFER)).startswith(b"-"):
                    raise RuntimeError(answer.decode())
                if call := next(key.data, None):
                    sock.sendall(call)
                elif following := next(waiting, None):
                    selector.modify(sock, selectors.EVENT_READ, following)
                    sock.sendall(next(following))
                else:
                    selector.unregister(sock)
