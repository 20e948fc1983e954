"""One chaos run: services, workers of two releases, clients that submit jobs, and faults."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.faults import WORKER_TTL, FaultInjector, schedule_faults
from benchmarks.chaos.flood import Flood, FloodOutcome
from benchmarks.chaos.forks import Fork, ForkedReads, fork, schedule_forks
from benchmarks.chaos.observer import Observer
from benchmarks.chaos.outcome import Outcome, collect_outcome
from benchmarks.chaos.sickness import OTHER_BUCKET
from benchmarks.chaos.stored_artifacts import count_stored_artifacts
from benchmarks.chaos.system import Fault, System
from benchmarks.chaos.truth import true_contents
from benchmarks.chaos.webhooks import Webhooks, webhooks
from benchmarks.chaos.workload import MIXED, Submission, schedule_submissions
from benchmarks.harness.fault_proxy import FaultProxy
from benchmarks.harness.previous_release import unpack_release
from benchmarks.harness.waiting import wait_until
from benchmarks.harness.worker_pool import READY_TIMEOUT, WorkerPool
from diffedit import Client, Settings
from diffedit.errors import ServiceError
from diffedit.jobs import keys
from diffedit.jobs.backend import redis_backend
from diffedit_worker.local.stack import S3, LocalServices, no_proxy

WORKERS = 3
ENVIRONMENT = {
    "DIFFEDIT_WORKER_TTL": f"{WORKER_TTL:g}",
    "DIFFEDIT_MAX_ATTEMPTS": "10",
    "DIFFEDIT_S3_RETRY_TIMEOUT": "20",
    "DIFFEDIT_BATCH_JOBS": "3",
}
ONE_JOB = {"DIFFEDIT_BATCH_JOBS": "1"}
"""For the first worker of the present code, so that both kinds work side by side."""
DELIVERY_TIMEOUT = 60.0
"""Seconds in which each event must be delivered when the faults are over. The receiver goes on refusing."""
ENDPOINT = "DIFFEDIT_S3_ENDPOINT_URL"


@dataclass(frozen=True)
class RollingRestart:
    """All workers go from the last release to the present code, one after the other; then one goes back, and again.

    It begins `at` seconds from the start.
    """

    at: float


Event = Submission | Fork | Fault | RollingRestart
STEPS = (*((place, True) for place in range(WORKERS)), (0, False), (0, True))
"""The steps of the restart: which worker, and whether to the present code."""


def run(
    directory: Path,
    *,
    seed: int,
    jobs: int,
    faults: int,
    sick: int,
    seconds: float,
    flood: int = 0,
    timeout: float = 300,
    beside: Callable[[LocalServices], None] | None = None,
) -> Outcome:
    """Submit `jobs` jobs, inject `faults` faults and bring `sick` sick workers within `seconds`.

    Then wait until all jobs have ended, and flood the system with `flood` jobs.

    Args:
        directory: for data and logs. It is emptied first.
        timeout: the longest wait for the jobs to end, in seconds. Jobs that have not ended by then are lost.
        beside: is called with the services before the first worker starts, to start what watches them.
    """
    before = psutil.Process().children(recursive=True)
    shutil.rmtree(directory, ignore_errors=True)
    # Before the server starts, because it does not notice changes of its directories.
    (directory / S3 / OTHER_BUCKET).mkdir(parents=True)
    mixed = seconds * MIXED
    with LocalServices(directory) as stack, FaultProxy(stack.environment[ENDPOINT]) as proxy:
        stack.environment |= {**ENVIRONMENT, ENDPOINT: proxy.url}
        if beside:
            beside(stack)
        environment = {**os.environ, **stack.environment, **no_proxy()}
        with webhooks(directory / "webhooks", environment) as hooks:
            submissions = schedule_submissions(seed, jobs, seconds, hooks.url)
            events: list[Event] = [
                *(submission for submission in submissions if not submission.forked),
                *schedule_forks(submissions),
                *schedule_faults(seed, faults, sick, seconds, mixed),
                RollingRestart(mixed / 4),
            ]
            outcome = _Run(stack, proxy, hooks).play(events, submissions, mixed, timeout, flood)
    children = psutil.Process().children(recursive=True)
    outcome.processes_left = [str(child) for child in children if child not in before]
    return outcome


class _Run:
    def __init__(self, stack: LocalServices, proxy: FaultProxy, hooks: Webhooks) -> None:
        settings = Settings.from_env(stack.environment)
        self._stack = stack
        self._finished = threading.Event()
        self._client = Client(settings)
        self._observer = Observer(redis_backend(settings).job_store)
        self._last_release = unpack_release(stack.directory / "last-release")
        self._workers = WorkerPool(stack, self._last_release)
        self._system = System(stack, self._workers, self._observer, proxy, hooks)
        self._injector = FaultInjector(self._system)
        self._forked = ForkedReads()
        self._renewed = 0

    def play(
        self, events: Sequence[Event], submissions: Sequence[Submission], mixed: float, timeout: float, flood: int
    ) -> Outcome:
        """Start the workers, let the events happen, wait until all jobs have ended, and return the outcome."""
        self._workers.start(WORKERS, self._client)
        self._system.webhooks.start()
        actions: dict[type, Callable[[Any], None]] = {
            Submission: self._submit,
            Fork: self._fork,
            Fault: self._injector.inject,
            RollingRestart: self._restart,
        }
        observer, finished = self._observer, self._finished
        with ThreadPoolExecutor(64) as pool:
            background = [pool.submit(self._workers.supervise, finished), pool.submit(observer.observe, finished)]
            try:
                began = time.monotonic()
                _happen(pool, [event for event in events if event.at < mixed], actions)
                # The second phase begins when no worker of the last release is left, however long that takes.
                _happen(pool, [replace(event, at=event.at - mixed) for event in events if event.at >= mixed], actions)
                wait_until(lambda: not observer.unfinished_jobs, timeout)
                seconds = time.monotonic() - began
                # A fork has nothing to read where all jobs before it were cancelled. This one has.
                self._fork(Fork(seconds, submissions=()))
                flooded = self._flood(flood) if flood else None
            finally:
                finished.set()
        for future in background:
            future.result()
        observer.read(list(observer.statuses))
        wait_until(lambda: not self._system.redis.exists(keys.WEBHOOKS), DELIVERY_TIMEOUT)
        self._system.webhooks.stop()
        return collect_outcome(
            self._system,
            self._injector,
            self._forked,
            truth=true_contents(submissions),
            stored=count_stored_artifacts(self._stack.directory / "logs"),
            renewed=self._renewed,
            seconds=seconds,
            flood=flooded,
        )

    def _flood(self, jobs: int) -> FloodOutcome:
        """Flood the system when the faults are over: here a worker without a heartbeat is one that counts as dead."""
        wait_until(lambda: len(self._client.health().workers) >= WORKERS, READY_TIMEOUT)
        wait_until(lambda: not self._system.redis.exists(keys.OUTAGE), READY_TIMEOUT)
        return Flood(Settings.from_env(self._stack.environment), WORKER_TTL).run(jobs)

    def _submit(self, submission: Submission) -> None:
        """Submit an edit, and submit it again while a service does not answer, as a user would."""
        while not self._finished.is_set():
            try:
                job = self._client.edit(submission.picture, **submission.options)
                return self._observer.add_job(submission.idempotency_key, job.id)
            except ServiceError:
                time.sleep(0.2)

    def _fork(self, event: Fork) -> None:
        environment = {**os.environ, **self._stack.environment, **no_proxy()}
        for submission in fork(self._system, environment, event, self._forked):
            self._submit(submission)

    def _restart(self, event: RollingRestart) -> None:
        for place, present in STEPS:
            self._workers.renew(place, self._last_release if not present else {} if place else ONE_JOB)
            self._renewed += 1
            wait_until(lambda: len(self._client.health().workers) >= WORKERS, READY_TIMEOUT)
        # Only what later workers make is known by its content.
        self._system.unchecked_keys |= set(self._system.artifact_keys())


def _happen(pool: Executor, events: Sequence[Event], actions: Mapping[type, Callable[[Any], None]]) -> None:
    """Start the action of each event at its time, and wait until all actions have returned."""
    began = time.monotonic()
    futures = []
    for event in sorted(events, key=lambda event: event.at):
        time.sleep(max(0.0, began + event.at - time.monotonic()))
        futures.append(pool.submit(actions[type(event)], event))
    for future in futures:
        future.result()
