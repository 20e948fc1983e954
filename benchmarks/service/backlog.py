"""Whether speed and memory stay constant while the workers empty a long queue."""

import itertools
import time
import uuid
from collections.abc import Iterator

import psutil

from benchmarks.harness.environment import PROMPTS, SIMULATED_WORKER, Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement
from diffedit.contract.job import Job
from diffedit.contract.stages import queue_names
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.keys import RUNNING, WAITING


def backlog(jobs: int = 10_000, workers: int = 2) -> Iterator[ResultRow]:
    """Submit `jobs` jobs whose stages take no time, start the workers, and compare late jobs with early ones."""
    with service_environment(SIMULATED_SECONDS="0") as env:
        cpu_before = _valkey_cpu_seconds(env)
        _submit(env, jobs)
        memory_waiting = _valkey_memory(env)
        env.start_workers(workers, SIMULATED_WORKER)
        rates, worker_memory = _measure_tenths(env, jobs)
        memory_finished, cpu = _valkey_memory(env), _valkey_cpu_seconds(env) - cpu_before
    yield ResultRow(
        f"{jobs} queued jobs, {workers} workers, stages of no length: throughput of the ninth tenth against the second",
        measurement(rates[-2] / rates[1]),
        measurement(rates[1], "1.00 = {} jobs a second", digits=0),
        target="constant",
    )
    yield ResultRow(
        "  memory of Valkey, all jobs finished against all jobs waiting",
        measurement(memory_finished / memory_waiting),
        measurement(memory_waiting / 1e6, "1.00 = {} MB", digits=0),
        target="constant",
    )
    yield ResultRow("  CPU time of Valkey per job of four stages", measurement(1000 * cpu / jobs, "{} ms"))
    yield ResultRow(
        "  memory of a worker, last tenth against first",
        measurement(worker_memory[-1] / worker_memory[0]),
        measurement(worker_memory[0], "1.00 = {} MB", digits=0),
        target="constant",
    )


def _submit(env: Environment, jobs: int) -> None:
    """Submit equal jobs with different seeds. The client makes the first one; its upload serves all of them."""
    request = env.client.edit(env.new_picture(), **PROMPTS).status().request
    job_store = redis_backend(env.settings).job_store
    for seed in range(jobs - 1):
        params = request.params.model_copy(update={"seed": seed})
        job = Job(id=uuid.uuid4().hex, request=request.model_copy(update={"params": params}))
        job_store.create_job(job, send=True)


def _measure_tenths(env: Environment, jobs: int) -> tuple[list[float], list[float]]:
    """Wait until all jobs have finished. Return the jobs per second and a worker's memory in MB, for each tenth."""
    marks = [(time.perf_counter(), 0)]
    memory = []
    while marks[-1][1] < jobs:
        time.sleep(0.5)
        env.stack.check()
        finished = _finished_jobs(env, jobs)
        if finished - marks[-1][1] >= jobs // 10 or finished >= jobs:
            marks.append((time.perf_counter(), finished))
            memory.append(_largest_worker_memory(env))
    rates = [(n2 - n1) / (t2 - t1) for (t1, n1), (t2, n2) in itertools.pairwise(marks)]
    return rates, memory


def _finished_jobs(env: Environment, jobs: int) -> int:
    running = env.redis.hlen(RUNNING)
    waiting = sum(env.redis.zcard(WAITING + queue) for queue in queue_names("tiny"))
    return int(jobs - running - waiting)


def _valkey_memory(env: Environment) -> int:
    return int(env.redis.info("memory")["used_memory"])


def _valkey_cpu_seconds(env: Environment) -> float:
    used = env.redis.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _largest_worker_memory(env: Environment) -> float:
    return max(psutil.Process(process.pid).memory_info().rss for process in env.workers.processes) / 1e6
