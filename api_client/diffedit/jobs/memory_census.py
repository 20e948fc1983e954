"""The census of a fleet in the memory of this process."""

import time
from collections import Counter

from diffedit.jobs.census import FleetCensus, QueueCensus, QueueName, durations_in, parse_queue
from diffedit.jobs.memory_state import MemoryState
from diffedit.jobs.memory_store import MemoryJobStore


class MemoryCensus:
    """A `Census` in this process."""

    def __init__(self, state: MemoryState, job_store: MemoryJobStore) -> None:
        self._state = state
        self._job_store = job_store

    def take(self) -> FleetCensus:
        state, now = self._state, time.time()
        with state.lock:
            workers = sorted(
                (info for _, info in state.heartbeats.values() if state.is_announced(info.id)),
                key=lambda worker: worker.name,
            )
            queues: dict[QueueName, QueueCensus] = {}
            used = {record["queue"] for record in state.records.values()}
            for name in sorted({*used, *state.paused, *(queue for worker in workers for queue in worker.queues)}):
                if parts := parse_queue(name):
                    queues[parts] = self._count(name, now)
            events = [float(event["due"]) for event in state.outbox.values()]
            return FleetCensus(
                at=now,
                queues=queues,
                durations={
                    profile: durations_in({stage: str(seconds) for stage, seconds in durations.items()})
                    for profile, durations in state.durations.items()
                },
                workers=workers,
                draining=frozenset(state.draining),
                troubles=dict(Counter(trouble.kind for trouble in state.troubles.values())),
                due_events=sum(due <= now for due in events),
                unsent_events=len(events),
                has_sender=state.sender_until > now,
                damaged=len(self._job_store.damaged_keys()),
                overdue=len(self._job_store.overdue_jobs()),
            )

    def _count(self, queue: str, now: float) -> QueueCensus:
        state = self._state
        waiting = [since for job_id, since in state.waiting.items() if state.records[job_id]["queue"] == queue]
        running = sum(state.records[job_id]["queue"] == queue for job_id in state.running)
        return QueueCensus(
            len(waiting), running, max(0.0, now - min(waiting)) if waiting else None, queue in state.paused
        )
