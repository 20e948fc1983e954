"""The registry of workers and the locks of artifacts, in the memory of this process."""

import math
import time
from collections.abc import Sequence
from typing import Any

from diffedit.contract import versions
from diffedit.jobs.memory_state import MemoryState
from diffedit.jobs.workers import LockResult, Trouble, WorkerInfo

_RECENTLY = 3600.0
"""Seconds for which `LockResult.RECENTLY_RELEASED` is answered."""


class MemoryWorkerRegistry:
    """A `WorkerRegistry` in this process."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def send_heartbeat(self, worker: WorkerInfo) -> bool:
        state, now, ttl = self._state, time.monotonic(), self._state.limits.worker_ttl
        with state.lock:
            if now >= state.beating_until:
                state.outage_until = now + ttl
            state.beating_until = now + ttl / 2
            state.note_epoch()
            state.heartbeats[worker.id] = (now + ttl, worker)
            state.profiles[worker.profile] = worker.profile_params
            state.presets[worker.profile] = worker.profile_presets
            return worker.id in state.draining

    def unregister(self, worker: str) -> None:
        with self._state.lock:
            self._state.heartbeats.pop(worker, None)
            self._state.draining.discard(worker)

    def request_drain(self, workers: Sequence[str]) -> None:
        with self._state.lock:
            self._state.draining.update(workers)

    def workers(self) -> list[WorkerInfo]:
        with self._state.lock:
            live = [worker for _, worker in self._state.heartbeats.values() if self._state.is_announced(worker.id)]
        return sorted(live, key=lambda worker: worker.name)

    def report_trouble(self, trouble: Trouble) -> None:
        with self._state.lock:
            before = self._state.troubles.get(trouble.name)
            if before and before.code == trouble.code:
                trouble = trouble.model_copy(update={"since": before.since})
            self._state.troubles[trouble.name] = trouble

    def clear_trouble(self, name: str) -> None:
        with self._state.lock:
            self._state.troubles.pop(name, None)

    def troubles(self) -> list[Trouble]:
        with self._state.lock:
            return sorted(self._state.troubles.values(), key=lambda trouble: trouble.name)

    def acquire_leadership(self, worker: str, seconds: float) -> bool:
        with self._state.lock:
            leader, until = self._state.leader
            if leader != worker and until > time.monotonic() and self._is_our_equal(leader):
                return False
            self._state.leader = (worker, time.monotonic() + seconds)
            return True

    def _is_our_equal(self, leader: str) -> bool:
        _, info = self._state.heartbeats.get(leader, (0, None))
        return info is None or info.contract >= versions.CONTRACT

    def profile_params(self, profile: str) -> dict[str, Any]:
        return self._state.profiles.get(profile, {})

    def has_announced(self, profile: str) -> bool:
        return profile in self._state.profiles

    def profile_presets(self, profile: str) -> dict[str, dict[str, Any]]:
        return self._state.presets.get(profile, {})


class MemoryArtifactLocks:
    """`ArtifactLocks` in this process."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def acquire(self, keys: Sequence[str], job_id: str, worker: str) -> LockResult:
        state = self._state
        with state.lock:
            for key in keys:
                owner, owner_job = state.locks.get(key, (worker, job_id))
                if owner_job != job_id and state.running.get(owner_job) == owner and state.is_alive(owner):
                    state.waiters.setdefault(key, set()).add(job_id)
                    return LockResult.LOCKED
            recent = any(time.monotonic() - state.made_at.get(key, -math.inf) < _RECENTLY for key in keys)
            for key in keys:
                state.waiters.get(key, set()).discard(job_id)
            state.locks.update(dict.fromkeys(keys, (worker, job_id)))
            return LockResult.RECENTLY_RELEASED if recent else LockResult.ACQUIRED

    def release(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        with self._state.lock:
            return self._state.release(keys, job_id, worker)
