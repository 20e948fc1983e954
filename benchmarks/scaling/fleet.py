"""The workers of one model group as a Deployment. They take jobs through the real job store, and only wait."""

import itertools
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from benchmarks.scaling.events import Events
from benchmarks.scaling.nodes import Node, NodePool
from benchmarks.scaling.traffic import PROFILE, SimulatedJob, with_artifacts_of
from diffedit.contract.job import Job, State
from diffedit.contract.stages import ModelGroup, Stage, queue_names
from diffedit.contract.versions import CONTRACT
from diffedit.errors import JobError
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.messages import task_name
from diffedit.jobs.workers import WorkerInfo

STAGES = {task_name(stage): stage for stage in Stage}
Drain = Literal["step", "stage"]
"""DIFFEDIT_DRAIN: a worker that must go hands its job back at the next step, or ends its stage."""

LOAD = 60.0
"""Seconds in which a worker starts and loads its models. An assumption."""


@dataclass
class Run:
    """A stage that a worker runs."""

    job: Job
    stage: Stage
    started_at: float


@dataclass(eq=False)
class Worker:
    """A pod. `ready_at` is None until its models are loaded."""

    id: str
    node: Node
    ready_at: float | None = None
    run: Run | None = None
    leaving: bool = False


class Fleet:
    """A Deployment of workers.

    Attributes:
        workers: those that were not told to go.
        busy_seconds: what all stages together ran that were completed.
        interruptions: how many stages were stopped by a scale-in.
        changed: whether there may be a message or an idle worker that was not there before; the caller resets it.
    """

    def __init__(
        self,
        group: ModelGroup,
        backend: JobBackend,
        events: Events,
        jobs: Mapping[str, SimulatedJob],
        drain: Drain,
        seed: int = 0,
    ) -> None:
        self.group = group
        self.queues = queue_names(PROFILE, [group])
        self.nodes = NodePool(events)
        self.workers: list[Worker] = []
        self.busy_seconds = 0.0
        self.interruptions = 0
        self.changed = False
        self._store, self._registry = backend.job_store, backend.worker_registry
        self._events, self._jobs, self._drain = events, jobs, drain
        self._leaving: list[Worker] = []
        self._idle: list[Worker] = []
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)

    @property
    def replicas(self) -> int:
        """The replicas that the Deployment shall have and has, as Kubernetes starts pods at once."""
        return len(self.workers)

    @property
    def ready(self) -> int:
        return sum(worker.ready_at is not None for worker in self.workers)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing left to pay for."""
        return not self.workers and not self._leaving and not self.nodes.present

    def scale_to(self, replicas: int) -> None:
        """Start workers, or let some go: those first that are not ready, then the youngest, as a ReplicaSet does."""
        while len(self.workers) < replicas:
            self._start()
        if len(self.workers) > replicas:
            ranked = sorted(self.workers, key=lambda worker: (self._age_rank(worker), self._random.random()))
            for worker in ranked[: len(self.workers) - replicas]:
                self._stop(worker)

    def _age_rank(self, worker: Worker) -> int:
        """Return the place of a worker among those to go. Kubernetes compares the logarithms of their ages."""
        if worker.ready_at is None:
            return -1
        return int(math.log2(max(1.0, self._events.now - worker.ready_at)))

    def _start(self) -> None:
        node = self.nodes.take()
        worker = Worker(f"{self.group.value}-{next(self._numbers)}", node)
        self.workers.append(worker)
        self._events.at(max(node.ready_at, self._events.now) + LOAD, lambda: self._ready(worker))

    def _ready(self, worker: Worker) -> None:
        if worker.leaving:
            return
        worker.ready_at = self._events.now
        self.changed = True
        self._events.clock.write()
        self._registry.send_heartbeat(
            WorkerInfo(
                id=worker.id,
                name=worker.id,
                profile=PROFILE,
                device="simulated",
                queues=self.queues,
                contract=CONTRACT,
            )
        )
        self._idle.append(worker)

    def _stop(self, worker: Worker) -> None:
        """SIGTERM: an idle worker goes at once, a busy one as DIFFEDIT_DRAIN says."""
        self.workers.remove(worker)
        worker.leaving = True
        if worker.run is None:
            self._gone(worker)
            return
        self._leaving.append(worker)
        if self._drain == "step":
            self._interrupt(worker, worker.run)

    def _interrupt(self, worker: Worker, run: Run) -> None:
        """Hand the job back, as `Requeueing.requeue` does. A step is so short that it takes no time here."""
        record = self._jobs[run.job.id]
        self.interruptions += 1
        record.interrupted[run.stage] = record.interrupted.get(run.stage, 0) + 1
        record.lost += self._events.now - run.started_at
        worker.run = None
        self.changed = True
        self._events.clock.write()
        if self._store.requeue(run.job, worker.id, count_attempt=False) is None:
            self._store.send(run.job)
        self._gone(worker)

    def _gone(self, worker: Worker) -> None:
        if worker in self._leaving:
            self._leaving.remove(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.ready_at is not None:
            self._registry.unregister(worker.id)
        self.nodes.free(worker.node)

    def take_messages(self, message: str | None) -> bool:
        """Let the worker that has been idle for longest start what a message names. Return whether it is used up."""
        if message is None or not self._idle:
            return False
        headers = json.loads(message)["headers"]
        job_id, stage = headers["job_id"], STAGES[headers["task"]]
        worker = self._idle[0]
        self._events.clock.write()
        try:
            status = self._store.start_stage(job_id, stage, worker.id)
        except JobError:
            return True  # a doubled message
        if status.state in (State.QUEUED, State.RUNNING):
            self._idle.pop(0)
            worker.run = run = Run(status.job, stage, self._events.now)
            record = self._jobs[job_id]
            record.started_at = record.started_at if record.started_at is not None else self._events.now
            self._events.after(record.seconds[stage], lambda: self._complete(worker, run))
        return True

    @property
    def has_idle_workers(self) -> bool:
        return bool(self._idle)

    def _complete(self, worker: Worker, run: Run) -> None:
        if worker.run is not run:
            return  # interrupted
        record, job = self._jobs[run.job.id], with_artifacts_of(run.job, run.stage)
        seconds = record.seconds[run.stage]
        self.changed = True
        self._events.clock.write()
        completion = self._store.complete_stage(job, run.stage, seconds, run.stage.gives, worker.id, send=True)
        assert completion.outcome is None, f"{run.job.id} ended as {completion.outcome} while {worker.id} ran it"
        self.busy_seconds += seconds
        worker.run = None
        if not job.stages_left:
            record.finished_at = self._events.now
        if worker.leaving:
            self._gone(worker)
        else:
            self._idle.append(worker)


def message_in(answer: object) -> str | None:
    """Return the message in an answer of LMPOP."""
    return cast(tuple[str, list[str]], answer)[1][0] if answer else None
