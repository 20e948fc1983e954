"""What the doubles in memory share."""

import math
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from diffedit.contract.job import Job
from diffedit.contract.owners import OwnerLimits
from diffedit.contract.stages import ModelGroup, queue_name
from diffedit.errors import QueueFull
from diffedit.jobs.deliveries import delivery_field
from diffedit.jobs.outbox import COPIED
from diffedit.jobs.queues import Pause
from diffedit.jobs.workers import Trouble, WorkerInfo, WorkerLimits
from diffedit.settings import Settings


class MemoryState:
    """What the three doubles share, and the steps that more than one of them takes."""

    def __init__(self, settings: Settings, limits: WorkerLimits) -> None:
        self.settings = settings
        self.limits = limits
        self.lock = threading.RLock()
        self.records: dict[str, dict[str, str]] = {}
        self.idempotency: dict[str, str] = {}
        self.running: dict[str, str] = {}
        self.waiting: dict[str, float] = {}
        self.heartbeats: dict[str, tuple[float, WorkerInfo]] = {}
        self.beating_until = math.inf
        self.outage_until = -math.inf
        """As `diffedit:beating` and `diffedit:outage` in `keys.py`."""
        self.stages: list[tuple[float, str]] = []
        """When a stage was done or refused."""
        self.watched_until: dict[str, float] = {}
        self.previews: dict[str, tuple[float, bytes]] = {}
        """Until when a preview is kept, and its file."""
        self.contents: dict[str, str] = {}
        self.submitted: dict[str, float] = {}
        self.parked: dict[str, float] = {}
        self.usage: dict[tuple[str, str, str], dict[str, float]] = {}
        """Day, owner and profile -> measures."""
        self.paused: dict[str, Pause] = {}
        self.kept: dict[str, float] = {}
        self.settled: dict[str, float] = {}
        self.data_since: float | None = None
        self.owner_limits: dict[str | None, OwnerLimits] = {}
        self.durations: dict[str, dict[str, float]] = {}
        self.outbox: dict[str, dict[str, str]] = {}
        self.sender_until = -math.inf
        self.secret = secrets.token_hex(16)
        """As the keys of these names in `keys.py`."""
        self.troubles: dict[str, Trouble] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.presets: dict[str, dict[str, dict[str, Any]]] = {}
        self.draining: set[str] = set()
        self.leader = ("", 0.0)
        self.locks: dict[str, tuple[str, str]] = {}
        self.made_at: dict[str, float] = {}
        self.waiters: dict[str, set[str]] = {}

    def note_epoch(self) -> None:
        """The data begin now, unless they have begun before."""
        self.data_since = self.data_since or time.time()

    def is_announced(self, worker: str) -> bool:
        return worker in self.heartbeats and self.heartbeats[worker][0] > time.monotonic()

    @property
    def heartbeats_are_complete(self) -> bool:
        return self.outage_until <= time.monotonic() < self.beating_until

    def is_alive(self, worker: str) -> bool:
        return self.is_announced(worker) or not self.heartbeats_are_complete

    def has_gone_on(self, job: Job, attempt: int | None) -> bool:
        """Return whether the next stage of `job` is not the next one now, or was not started so often."""
        record, stage = self.records[job.id], job.stages_left[0].value
        return attempt is not None and (record["next"], int(record.get(f"attempts:{stage}", 0))) != (stage, attempt)

    def runs_elsewhere(self, job_id: str, worker: str | None) -> bool:
        holder = self.running.get(job_id)
        return holder is not None and holder != worker and self.is_alive(holder)

    def set_waiting(self, job: Job) -> None:
        self.records[job.id] |= {"next": job.stages_left[0].value, "queue": job.queue}
        self.waiting[job.id] = time.time()

    def clear_open(self, job_id: str) -> None:
        self.running.pop(job_id, None)
        self.waiting.pop(job_id, None)
        self.parked.pop(job_id, None)

    def add_usage(self, owner: str | None, profile: str, measure: str, amount: float) -> None:
        """Add to what an owner has used today."""
        day = datetime.now(UTC).date().isoformat()
        measures = self.usage.setdefault((day, owner or "", profile), {})
        measures[measure] = measures.get(measure, 0) + amount

    def queue_webhook(self, job_id: str, event: str) -> None:
        """Put an event of the job into the outbox, if the job has a webhook."""
        record = self.records[job_id]
        if "webhook" in record:
            event_id = f"{job_id}.{event}" + (f".{record['revived']}" if "revived" in record else "")
            now, attempts = time.time(), self.outbox.get(event_id, {}).get("attempts", "0")
            copied = {name: record[name] for name in COPIED if name in record}
            queued = {"due": f"{now:.6f}", "attempts": attempts}
            self.outbox[event_id] = {**copied, **queued}
            self.note_delivery(job_id, event, "pending", int(attempts), now)

    def note_delivery(
        self, job_id: str, event: str, state: str, attempts: int, at: float, error: str | None = None
    ) -> None:
        """Note in the record of a job, if it is there, what became of an event."""
        if job_id in self.records:
            self.records[job_id] |= delivery_field(event, state, attempts, at, error)

    def check_queue(self, job: Job) -> None:
        """Raise QueueFull if no more jobs may wait in this lane of the profile."""
        lane, profile = job.options.lane, job.request.params.profile
        queues = {queue_name(profile, group, lane) for group in ModelGroup}
        queued = sum(self.records[job_id]["queue"] in queues for job_id in self.waiting)
        if queued >= self.settings.max_queued:
            raise QueueFull(lane.value, profile, self.settings.max_queued)

    def name_of(self, worker: str) -> str:
        return self.heartbeats[worker][1].name if self.is_announced(worker) else worker

    def reads(self, worker: str, queue: str) -> bool:
        return self.is_announced(worker) and queue in self.heartbeats[worker][1].queues

    def workers_of(self, job_id: str, queue: str) -> list[WorkerInfo]:
        """Return the live workers that read the queue and can serve the job."""
        contract = int(self.records[job_id].get("contract", 1))
        live = [info for worker, (_, info) in self.heartbeats.items() if self.is_announced(worker)]
        return [info for info in live if queue in info.queues and info.contract >= contract]

    def release(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        held = [key for key in keys if self.locks.get(key) == (worker, job_id)]
        for key in held:
            del self.locks[key]
            self.made_at[key] = time.monotonic()
        return [waiter for key in held for waiter in self.waiters.pop(key, ())]


def can_try(workers: Sequence[WorkerInfo], refused: Sequence[str]) -> bool:
    """Return whether one of these workers takes jobs and its name is not among those that refused the stage."""
    return any(not info.paused and info.name not in refused for info in workers)
