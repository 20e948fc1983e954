"""The queues of a fleet: their names, and what is in them."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

from diffedit.admin.models import QueueState
from diffedit.admin.selection import member
from diffedit.contract.stages import Lane, ModelGroup, queue_name, queue_names
from diffedit.jobs.administration import QueueCounts
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.census import QueueName, parse_queue

M = TypeVar("M", ModelGroup, Lane)

_NOTHING = QueueCounts(0, 0, 0, 0, 0, None)


def queue_states(backend: JobBackend) -> list[QueueState]:
    """Return all queues that a worker reads, that a job ever waited in, or that are paused; by profile."""
    store, workers = backend.job_store, backend.worker_registry.workers()
    counts, pauses, now = store.queue_counts(), store.paused_queues(), store.now()
    read = {queue: tuple(each.name for each in workers if queue in each.queues) for queue in _queues_of(workers)}
    states = []
    for name, (profile, group, lane) in _known({*counts, *read, *pauses}).items():
        count, pause = counts.get(name, _NOTHING), pauses.get(name)
        states.append(
            QueueState(
                name=name,
                profile=profile,
                group=group,
                lane=lane,
                waiting=count.waiting,
                held_back=count.held_back,
                parked=count.parked,
                running=count.running,
                oldest=None if count.oldest is None else max(now - count.oldest, 0.0),
                paused_since=pause.since if pause else None,
                paused_reason=pause.reason if pause else None,
                workers=read.get(name, ()),
            )
        )
    return states


def selected(
    states: Iterable[QueueState], profile: str | None, group: ModelGroup | str | None, lane: Lane | str | None
) -> list[str]:
    """Return the names of the queues of this profile, group and lane; None stands for all of them.

    A profile that is named has all its queues, whether a job ever waited in one or not. Raises InvalidRequest.
    """
    groups, lanes = _members("group", ModelGroup, group), _members("lane", Lane, lane)
    profiles = {state.profile for state in states} if profile is None else {profile}
    return [name for each in sorted(profiles) for name in queue_names(each, groups, lanes)]


def advice_for_pause(queue: str) -> str:
    """Return the command that ends the pause of a queue."""
    ((profile, group, lane),) = _known([queue]).values()
    return f"`diffedit admin resume --profile {profile} --group {group.value} --lane {lane.value}` ends the pause."


def _known(names: Collection[str]) -> dict[str, QueueName]:
    """Return what each of these names stands for, sorted by profile. What is no name of ours is left out."""
    parts = [found for name in set(names) if (found := parse_queue(name))]
    lanes, groups = list(Lane), list(ModelGroup)
    parts.sort(key=lambda each: (each.profile, lanes.index(each.lane), groups.index(each.group)))
    return {queue_name(*each): each for each in parts}


def _queues_of(workers: Iterable[Any]) -> set[str]:
    return {queue for worker in workers for queue in worker.queues}


def _members(name: str, kind: type[M], value: M | str | None) -> Sequence[M]:
    return tuple(kind) if value is None else (member(name, kind, value),)
