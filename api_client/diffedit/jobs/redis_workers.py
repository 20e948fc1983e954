"""The registry of workers and the locks of artifacts, in Redis or Valkey."""

import json
import math
from collections.abc import Sequence
from typing import Any, cast

import redis
from pydantic import ValidationError

from diffedit.contract import versions
from diffedit.jobs import keys
from diffedit.jobs.redis_entries import RedisEntries
from diffedit.jobs.redis_server import RedisServer, translate_errors
from diffedit.jobs.workers import (
    LockResult,
    Trouble,
    WorkerInfo,
    WorkerLimits,
    is_object,
    read_info,
    read_params,
    read_presets,
)

TROUBLE_TTL = 3600
"""Seconds. A worker that is started again and again reports its trouble each time."""


class RedisWorkerRegistry:
    """A `WorkerRegistry` in Redis or Valkey."""

    def __init__(self, server: RedisServer, limits: WorkerLimits) -> None:
        self._server = server
        self._limits = limits
        self._entries = RedisEntries(server)

    @property
    def _redis(self) -> redis.Redis:
        return self._server.connection

    @translate_errors
    def send_heartbeat(self, worker: WorkerInfo) -> bool:
        answer = self._server.run(
            "send_heartbeat",
            worker=worker.id,
            info=worker.model_dump_json(),
            queues=worker.queues,
            ttl_ms=int(1000 * self._limits.worker_ttl),
            profile=worker.profile,
            profile_params=json.dumps(worker.profile_params),
            profile_presets=json.dumps(worker.profile_presets),
        )
        return answer == "drain"

    @translate_errors
    def unregister(self, worker: str) -> None:
        self._redis.delete(keys.HEARTBEAT + worker)
        self._redis.srem(keys.DRAINING, worker)

    @translate_errors
    def request_drain(self, workers: Sequence[str]) -> None:
        if workers:
            self._redis.sadd(keys.DRAINING, *workers)

    @translate_errors
    def workers(self) -> list[WorkerInfo]:
        ids = sorted(cast(set[str], self._entries.read("smembers", keys.WORKERS)))
        answers = self._entries.read_all([("get", keys.HEARTBEAT + each) for each in ids])
        heartbeats = cast(dict[str, str | None], dict(zip(ids, answers, strict=True)))
        dead = [worker for worker, heartbeat in heartbeats.items() if heartbeat is None]
        if dead:
            self._redis.srem(keys.WORKERS, *dead)
            self._redis.srem(keys.DRAINING, *dead)
        live = {worker: heartbeat for worker, heartbeat in heartbeats.items() if heartbeat is not None}
        self._entries.note(keys.HEARTBEAT + worker for worker, heartbeat in live.items() if not is_object(heartbeat))
        return sorted((read_info(*each) for each in live.items()), key=lambda worker: worker.name)

    @translate_errors
    def report_trouble(self, trouble: Trouble) -> None:
        before = self._trouble_of(trouble.name)
        if before and before.code == trouble.code:
            trouble = trouble.model_copy(update={"since": before.since})
        self._server.run("report_trouble", name=trouble.name, trouble=trouble.model_dump_json(), ttl=TROUBLE_TTL)

    @translate_errors
    def clear_trouble(self, name: str) -> None:
        self._redis.delete(keys.TROUBLE + name)

    @translate_errors
    def troubles(self) -> list[Trouble]:
        names = sorted(cast(set[str], self._entries.read("smembers", keys.TROUBLES)))
        found = {name: self._trouble_of(name) for name in names}
        over = [name for name, trouble in found.items() if not trouble]
        if over:
            self._redis.srem(keys.TROUBLES, *over)
        return [trouble for trouble in found.values() if trouble]

    def _trouble_of(self, name: str) -> Trouble | None:
        text = cast(str | None, self._entries.read("get", keys.TROUBLE + name))
        try:
            return None if text is None else Trouble.model_validate_json(text)
        except ValidationError:
            if text is not None and not is_object(text):  # else it is of another version
                self._entries.note([keys.TROUBLE + name])
            return None

    @translate_errors
    def acquire_leadership(self, worker: str, seconds: float) -> bool:
        return bool(
            self._server.run(
                "acquire_leadership",
                worker=worker,
                ttl_ms=int(1000 * seconds),
                worker_ttl_ms=int(1000 * self._limits.worker_ttl),
                contract=versions.CONTRACT,
            )
        )

    @translate_errors
    def profile_params(self, profile: str) -> dict[str, Any]:
        return read_params(cast(str | None, self._entries.read("hget", keys.PROFILES, profile)))

    @translate_errors
    def has_announced(self, profile: str) -> bool:
        return self._entries.read("hget", keys.PROFILES, profile) is not None

    @translate_errors
    def profile_presets(self, profile: str) -> dict[str, dict[str, Any]]:
        return read_presets(cast(str | None, self._entries.read("hget", keys.PRESETS, profile)))


class RedisArtifactLocks:
    """`ArtifactLocks` in Redis or Valkey."""

    def __init__(self, server: RedisServer, limits: WorkerLimits) -> None:
        self._server = server
        self._limits = limits

    @translate_errors
    def acquire(self, keys: Sequence[str], job_id: str, worker: str) -> LockResult:
        answer = self._server.run(
            "acquire_locks",
            job_id=job_id,
            worker=worker,
            artifacts=list(keys),
            lock_timeout=math.ceil(self._limits.lock_timeout),
        )
        return LockResult(cast(str, answer))

    @translate_errors
    def release(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        answer = self._server.run("release_locks", job_id=job_id, worker=worker, artifacts=list(keys))
        return cast(list[str], answer)
