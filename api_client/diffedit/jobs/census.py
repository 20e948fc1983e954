"""How many jobs wait and run, and what workers do, at one moment: what Prometheus and autoscalers need to know.

A census is taken every few seconds. It reads counts, never the records of jobs, so that it costs as little with ten
thousand waiting jobs as with none.
"""

import math
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple, Protocol

from diffedit.contract.stages import Lane, ModelGroup, Stage, queue_name
from diffedit.jobs.workers import TroubleKind, WorkerInfo

UNMEASURED = 10.0
"""Seconds that a stage is taken to need as long as no stage of its model group was ever measured."""


class QueueName(NamedTuple):
    """The parts of a queue's name."""

    profile: str
    group: ModelGroup
    lane: Lane


class QueueCensus(NamedTuple):
    """One queue.

    Attributes:
        waiting: the jobs that wait in it.
        running: the jobs of which a stage of this queue runs.
        oldest: seconds for which the first of the waiting jobs has waited; None if none waits.
        paused: whether the queue is paused.
    """

    waiting: int = 0
    running: int = 0
    oldest: float | None = None
    paused: bool = False


class FleetCensus(NamedTuple):
    """A fleet at one moment.

    Attributes:
        at: that moment, by the clock of the Redis server, in seconds since 1970.
        queues: the queues in which a job ever waited, that a live worker reads, or that are paused, by name.
        durations: seconds that the stages of each profile take, as an average.
        workers: the live workers.
        draining: ids of workers that were asked to drain. They announce it with their next heartbeat.
        troubles: how many workers have reported a trouble of each kind.
        due_events, unsent_events: events of webhooks that have to be sent now, and all that are not delivered yet.
        has_sender: whether a sender of webhooks has looked for events in the last minute.
        damaged: keys that were found in the last hour to hold what cannot be read.
        overdue: jobs whose time is over and that nobody has ended yet.
    """

    at: float
    queues: Mapping[QueueName, QueueCensus]
    durations: Mapping[str, Mapping[Stage, float]]
    workers: Sequence[WorkerInfo]
    draining: Set[str]
    troubles: Mapping[TroubleKind, int]
    due_events: int
    unsent_events: int
    has_sender: bool
    damaged: int
    overdue: int


class Census(Protocol):
    """Counts a fleet. Nothing is changed."""

    def take(self) -> FleetCensus:
        """Count the fleet now."""


def work_seconds(group: ModelGroup, counted: QueueCensus, durations: Mapping[Stage, float]) -> float:
    """Return an estimate of the seconds of work in a queue, for one worker that runs one stage at a time.

    It needs no more than counts. A job in the queue is taken to be at each of the n measured stages of the model group
    with the same likelihood. One that waits has this stage and the later ones before it, one that runs half of this
    stage and the later ones. With the mean durations d_1 ... d_n in running order that makes, on average,

        waiting job: sum of j/n * d_j      running job: sum of (j - 1/2)/n * d_j
    """
    measured = [durations[stage] for stage in Stage if stage.group is group and stage in durations] or [UNMEASURED]
    n = len(measured)
    waiting = sum(number / n * seconds for number, seconds in enumerate(measured, start=1))
    running = sum((number - 0.5) / n * seconds for number, seconds in enumerate(measured, start=1))
    return counted.waiting * waiting + counted.running * running


def queues_of(worker: WorkerInfo) -> list[QueueName]:
    """Return the queues that a worker reads, without names that are none of ours."""
    return [parts for queue in worker.queues if (parts := parse_queue(queue))]


def parse_queue(name: str) -> QueueName | None:
    """Return the parts of a queue's name, None if it is no queue of ours."""
    try:
        _, profile, group, *lane = name.split(".")
        parts = QueueName(profile, ModelGroup(group), Lane(*lane) if lane else Lane.INTERACTIVE)
    except (ValueError, TypeError):
        return None
    return parts if profile and queue_name(*parts) == name else None


def durations_in(fields: Mapping[str, str]) -> dict[Stage, float]:
    """Return the durations that can be read."""
    found = {stage: _number(fields.get(stage.value)) for stage in Stage}
    return {stage: seconds for stage, seconds in found.items() if seconds is not None}


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
