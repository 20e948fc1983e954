"""One day of one scenario: the traffic, the fleets and their scalers, over a Redis of its own."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import redis

from benchmarks.scaling.autoscaler import SYNC_PERIOD, Activation, HorizontalAutoscaler
from benchmarks.scaling.clock import SimulatedClock, simulated_scripts
from benchmarks.scaling.events import Events
from benchmarks.scaling.fleet import Fleet, message_in
from benchmarks.scaling.scenarios import Scenario
from benchmarks.scaling.signals import SignalReader, Signals
from benchmarks.scaling.traffic import DAY, SimulatedJob
from diffedit.contract.job import Job
from diffedit.contract.stages import ModelGroup
from diffedit.jobs.backend import JobBackend, redis_backend
from diffedit.jobs.workers import WorkerLimits
from diffedit.settings import Settings
from diffedit_worker.local.stack import LocalServices

SCRAPE_INTERVAL = 15.0
"""Seconds between two scrapes of the exporter by Prometheus."""
TEND_INTERVAL = 60.0
"""Seconds between two calls of `JobStore.tend_queues` by the leader. Messages do not get lost here."""
LONGEST = 2 * DAY
"""When a simulation ends that does not get done."""


@dataclass(frozen=True)
class Sample:
    """The fleet of one group at one moment, in seconds since the start of the day."""

    at: float
    nodes: int
    replicas: int
    ready: int
    signals: Signals


@dataclass(frozen=True)
class Day:
    """What came of a day.

    Attributes:
        jobs: all jobs, with what became of them.
        fleets, scalers: by group.
        wall_seconds, cpu_share: how long the simulation took, and the share of it in which this process computed.
    """

    scenario: Scenario
    jobs: Sequence[SimulatedJob]
    fleets: Mapping[ModelGroup, Fleet]
    scalers: Mapping[ModelGroup, "Scaler"]
    wall_seconds: float
    cpu_share: float


class Scaler:
    """KEDA and the HPA of one Deployment, or nobody, if there is no trigger.

    Attributes:
        samples: one in each `SYNC_PERIOD`.
        to_zero: how often it let the last worker go.
    """

    def __init__(self, scenario: Scenario, fleet: Fleet, reader: SignalReader, events: Events) -> None:
        self._fleet, self._reader, self._events = fleet, reader, events
        self._trigger = trigger = scenario.trigger.get(fleet.group)
        rules, maximum = scenario.rules, scenario.replicas[fleet.group]
        self._hpa = HorizontalAutoscaler(1, maximum, rules.up, rules.down)
        self._activation = Activation(cooldown=rules.cooldown)
        self._scraped = reader.read()
        self.samples: list[Sample] = []
        self.to_zero = 0
        if trigger:
            # Not at the moment at which the HPA asks.
            events.every(SCRAPE_INTERVAL, self._scrape, first=SCRAPE_INTERVAL / 2)
            events.every(rules.polling, self._activate, first=1)
        else:
            fleet.scale_to(maximum)
        events.every(SYNC_PERIOD, self._scale, first=2)

    def _scrape(self) -> None:
        if self._trigger and self._trigger.scraped:
            self._scraped = self._reader.read()

    def _seen(self) -> Signals:
        return self._scraped if self._trigger and self._trigger.scraped else self._reader.read()

    def _activate(self) -> None:
        assert self._trigger
        before = self._fleet.replicas
        after = self._activation.replicas(self._events.now, before, self._trigger.active(self._seen()))
        if after != before:
            self._hpa.forget()
            self._fleet.scale_to(after)
            self.to_zero += after == 0

    def _scale(self) -> None:
        fleet, now, seen = self._fleet, self._events.now, self._seen()
        if self._trigger and fleet.replicas:
            fleet.scale_to(self._hpa.replicas(now, fleet.replicas, fleet.ready, self._trigger.metrics(seen)))
        self.samples.append(Sample(now, fleet.nodes.present, fleet.replicas, fleet.ready, seen))


class Simulation:
    """A day: its jobs, its workers and their scalers.

    Attributes:
        events: what happens when; a caller may add to it before `run`.
        fleets, scalers: by group.
    """

    def __init__(
        self, scenario: Scenario, jobs: Sequence[SimulatedJob], backend: JobBackend, connection: redis.Redis
    ) -> None:
        self._scenario, self._jobs, self._connection = scenario, jobs, connection
        self._store = backend.job_store
        self._clock = clock = SimulatedClock(connection)
        self.events = events = Events(clock)
        by_id = {each.job.id: each for each in jobs}
        self.fleets = {group: Fleet(group, backend, events, by_id, scenario.drain) for group in scenario.replicas}
        self.scalers = {
            group: Scaler(scenario, fleet, SignalReader(connection, group, clock), events)
            for group, fleet in self.fleets.items()
        }
        for each in jobs:
            events.at(each.submitted_at, partial(self._submit, each.job))
        events.every(TEND_INTERVAL, self._tend)

    def run(self, until: float = DAY) -> Day:
        """Run until `until` and until all jobs are done and, if workers are scaled, all nodes are gone."""
        began, cpu = time.perf_counter(), time.process_time()
        while not self._is_over(until):
            self.events.step()
            if any(fleet.changed for fleet in self.fleets.values()):
                self._hand_out()
        wall = time.perf_counter() - began
        return Day(self._scenario, self._jobs, self.fleets, self.scalers, wall, (time.process_time() - cpu) / wall)

    def _is_over(self, until: float) -> bool:
        if self._clock.now < until or any(each.finished_at is None for each in self._jobs):
            return self._clock.now > LONGEST
        return not self._scenario.trigger or all(fleet.is_idle for fleet in self.fleets.values())

    def _submit(self, job: Job) -> None:
        self._clock.write()
        self._store.create_job(job, send=True)
        self.fleets[job.stages_left[0].group].changed = True

    def _tend(self) -> None:
        """Do what the leader does, which is one of the workers."""
        if any(fleet.ready for fleet in self.fleets.values()):
            self._clock.write()
            self._store.tend_queues()
            for fleet in self.fleets.values():
                fleet.changed = True

    def _hand_out(self) -> None:
        """Let idle workers take messages, each from its queues in their order."""
        for fleet in self.fleets.values():
            fleet.changed = False
            while fleet.has_idle_workers:
                answer = self._connection.lmpop(len(fleet.queues), *fleet.queues, direction="RIGHT")
                if not fleet.take_messages(message_in(answer)):
                    break


def simulate(scenario: Scenario, jobs: Sequence[SimulatedJob]) -> Day:
    """Run a day over a new Redis."""
    with simulated_redis() as (backend, connection):
        return Simulation(scenario, jobs, backend, connection).run()


@contextmanager
def simulated_redis() -> Iterator[tuple[JobBackend, redis.Redis]]:
    """Start the bundled Valkey for a job store whose scripts have the simulated clock, and a connection beside it."""
    with tempfile.TemporaryDirectory() as directory, LocalServices(Path(directory)) as stack, simulated_scripts():
        settings = Settings.from_env({**stack.environment, "DIFFEDIT_MAX_QUEUED": "100000"})
        # Heartbeats are sent once, and simulated workers leave in order.
        backend = redis_backend(settings, WorkerLimits(worker_ttl=7 * DAY))
        try:
            yield backend, redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"], decode_responses=True)
        finally:
            backend.close()
