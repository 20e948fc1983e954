"""One chaos run: services, workers, clients that submit jobs, and faults."""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.faults import WORKER_TTL, Fault, FaultInjector, schedule_faults
from benchmarks.chaos.observer import Observer
from benchmarks.chaos.outcome import Outcome, collect_outcome
from benchmarks.chaos.stored_artifacts import count_stored_artifacts
from benchmarks.chaos.workload import Submission, schedule_submissions
from benchmarks.harness.waiting import wait_until
from benchmarks.harness.worker_pool import WorkerPool
from diffedit import Client, Settings
from diffedit.errors import ServiceError
from diffedit.jobs.backend import redis_backend
from diffedit_worker.local.stack import Stack

WORKERS = 3
ENVIRONMENT = {
    "DIFFEDIT_WORKER_TTL": f"{WORKER_TTL:g}",
    "DIFFEDIT_MAX_ATTEMPTS": "10",
    "DIFFEDIT_S3_RETRY_TIMEOUT": "20",
}


def run(directory: Path, *, seed: int, jobs: int, faults: int, seconds: float, timeout: float = 300) -> Outcome:
    """Submit `jobs` jobs and inject `faults` faults within `seconds`, then wait until all jobs have ended.

    Args:
        directory: for data and logs. It is emptied first.
        timeout: the longest wait for the jobs to end, in seconds. Jobs that have not ended by then are lost.
    """
    before = psutil.Process().children(recursive=True)
    shutil.rmtree(directory, ignore_errors=True)
    with Stack(directory) as stack:
        stack.environment |= ENVIRONMENT
        submissions = schedule_submissions(seed, jobs, seconds)
        outcome = _run(stack, [*submissions, *schedule_faults(seed, faults, seconds)], timeout)
    children = psutil.Process().children(recursive=True)
    outcome.processes_left = [str(child) for child in children if child not in before]
    return outcome


def _run(stack: Stack, events: Sequence[Submission | Fault], timeout: float) -> Outcome:
    settings = Settings.from_env(stack.environment)
    client, finished = Client(settings), threading.Event()
    workers, observer = WorkerPool(stack), Observer(redis_backend(settings).job_store)
    injector = FaultInjector(stack, workers, observer)

    def submit(submission: Submission) -> None:
        """Submit an edit, and submit it again while a service does not answer, as a user would."""
        while not finished.is_set():
            try:
                job = client.edit(
                    submission.picture, **submission.arguments, idempotency_key=submission.idempotency_key
                )
                return observer.add_job(submission.idempotency_key, job.id)
            except ServiceError:
                time.sleep(0.2)

    workers.start(WORKERS, client)
    with ThreadPoolExecutor(64) as pool:
        background = [pool.submit(workers.supervise, finished), pool.submit(observer.observe, finished)]
        try:
            began = time.monotonic()
            _play(pool, events, {Submission: submit, Fault: injector.inject})
            wait_until(lambda: not observer.unfinished_jobs, timeout)
            seconds = time.monotonic() - began
        finally:
            finished.set()
    for future in background:
        future.result()
    observer.read(list(observer.statuses))
    stored = count_stored_artifacts(stack.directory / "logs")
    return collect_outcome(client, observer, injector, crashes=workers.crashes, stored=stored, seconds=seconds)


def _play(pool: Executor, events: Sequence[Submission | Fault], actions: dict[type, Callable[[Any], None]]) -> None:
    """Start the action of each event at its time, and wait until all actions have returned."""
    began = time.monotonic()
    futures = []
    for event in sorted(events, key=lambda event: event.at):
        time.sleep(max(0.0, began + event.at - time.monotonic()))
        futures.append(pool.submit(actions[type(event)], event))
    for future in futures:
        future.result()
