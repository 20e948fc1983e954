"""Whether the services answer, which workers can work, and how many messages wait."""

import time
from collections.abc import Callable
from contextlib import nullcontext

from pydantic import Field

from diffedit.contract.stages import queue_names
from diffedit.contract.validation import Frozen
from diffedit.contract.webhooks import WaitingEvents
from diffedit.deadline import deadline
from diffedit.errors import ServiceError
from diffedit.fleet import Fleet
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.queues import Pause
from diffedit.jobs.store import RecentStages
from diffedit.jobs.workers import Trouble, WorkerInfo
from diffedit.objects.store import ObjectStore
from diffedit.waiting import SHORTEST_WAIT

REFUSED_SHARE = 0.25
"""Of the recent stages; from this share on the system is not healthy."""


class Health(Frozen):
    """The state of the services at one moment.

    Attributes:
        broker: "ok", or why Redis or Valkey cannot be used.
        object_store: "ok", or why S3 cannot be used.
        broker_warnings: what to correct in the configuration of Redis or Valkey. Jobs run, but may be lost.
        workers: the live workers, by name.
        troubles: the workers that are paused, that could not run a stage, or that left in the last hour as unfit.
        recent_stages: how many stages were done in the last ten minutes, and how often a worker could not run one for a
            reason of its own.
        queues: the number of messages in each queue of the client's profile, of the live workers, and of waiting jobs.
        unserved: the queues of the client's profile and of waiting jobs from which no live worker takes jobs,
            because none reads it, or because it is paused.
        paused: the queues that an administrator has paused, with reasons (`Client.admin`).
        damaged: the names of keys in Redis that were found in the last hour to hold what cannot be read. They were
            skipped. At most 1000.
        webhooks: the events that wait to be sent to webhooks, and whether a sender runs. Jobs run without one,
            so `ok` does not depend on it.
    """

    broker: str
    object_store: str
    broker_warnings: tuple[str, ...] = ()
    workers: tuple[WorkerInfo, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    recent_stages: RecentStages = RecentStages(0, 0)
    queues: dict[str, int] = Field(default_factory=dict)
    unserved: tuple[str, ...] = ()
    paused: dict[str, Pause] = Field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    webhooks: WaitingEvents = WaitingEvents()

    @property
    def ok(self) -> bool:
        """Whether a job that is submitted now can run.

        The services answer, each queue has a live worker that takes jobs and is not paused, and the workers could run
        more than three quarters of the recent stages.
        """
        return self.broker == self.object_store == "ok" and not self.unserved and not self.many_refused

    def takes_jobs(self, worker: str) -> bool:
        """Return whether this worker lives and takes jobs, and the services answer.

        `worker` is its name ("gpu-3@host"), the part before the "@", or its id.
        """
        return self.broker == self.object_store == "ok" and any(not each.paused for each in self._named(worker))

    def why_idle(self, worker: str) -> str:
        """Return why this worker takes no jobs, as text for people. The argument is that of `takes_jobs`."""
        states = [each.state for each in self._named(worker)]
        if not states:
            return "no live worker has this name"
        return f"it is {states[0]}" if {"paused", "draining"}.intersection(states) else "Redis or S3 does not answer"

    def _named(self, worker: str) -> list[WorkerInfo]:
        return [each for each in self.workers if worker in (each.name, each.name.partition("@")[0], each.id)]

    @property
    def many_refused(self) -> bool:
        """Whether workers could not run a quarter of the stages of the last ten minutes, or more."""
        done, refused = self.recent_stages
        return refused > 0 and refused >= REFUSED_SHARE * (done + refused)


def wait_for_health(ask: Callable[[], Health], is_healthy: Callable[[Health], bool], timeout: float) -> Health:
    """Ask every second until the answer is healthy, or `timeout` seconds are over. Return the last answer."""
    until = time.monotonic() + timeout
    while True:
        # A server that takes connections and never answers must not outlast the timeout.
        with deadline(max(until - time.monotonic(), SHORTEST_WAIT)) if timeout > 0 else nullcontext():
            report = ask()
        left = until - time.monotonic()
        if left <= 0 or is_healthy(report):
            return report
        time.sleep(min(left, 1.0))


def check_health(backend: JobBackend, object_store: ObjectStore, configured_profile: str | None) -> Health:
    """Ask the services. An error of a service becomes a part of the answer."""
    found: dict[str, object] = {"broker": "ok", "object_store": "ok"}
    try:
        backend.job_store.ping()
        found["broker_warnings"] = tuple(backend.warnings())
        fleet = Fleet(backend.worker_registry, configured_profile)
        needed = {*queue_names(fleet.default_profile), *backend.job_store.waiting_jobs()}
        found["workers"] = tuple(fleet.workers)
        found["troubles"] = tuple(backend.worker_registry.troubles())
        found["recent_stages"] = backend.job_store.recent_stages()
        found["paused"] = paused = dict(backend.job_store.paused_queues())
        found["unserved"] = tuple(sorted(needed - (fleet.queues - paused.keys())))
        found["queues"] = backend.job_store.queue_lengths(sorted(fleet.queues | needed))
        found["webhooks"] = backend.outbox.waiting()
        found["damaged"] = tuple(backend.job_store.damaged_keys())
    except ServiceError as error:
        found["broker"] = str(error)
    try:
        object_store.ping()
    except ServiceError as error:
        found["object_store"] = str(error)
    return Health.model_validate(found)
