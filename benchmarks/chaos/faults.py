"""The faults of a chaos run: all kinds, and their schedule, drawn from a seed."""

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import redis

from benchmarks.chaos import artifact_faults, queue_faults, service_faults, sick_workers, worker_faults
from benchmarks.chaos.sickness import Sickness
from benchmarks.chaos.system import Fault, System
from diffedit.errors import ServiceError

log = logging.getLogger(__name__)

WORKER_TTL = 3.0

Inject = Callable[[System, Fault], bool]
"""Injects a fault. Returns, when the fault is over, whether there was anything to hit."""

OLD_KINDS: dict[str, Inject] = {
    "worker killed": worker_faults.kill_worker,
    "worker stopped": worker_faults.stop_worker,
    "worker frozen": worker_faults.freeze_worker,
    "Valkey killed": service_faults.kill_valkey,
    "Valkey restarted": service_faults.restart_valkey,
    "S3 stopped": service_faults.stop_s3,
    "S3 frozen": service_faults.freeze_s3,
    "queues deleted": queue_faults.delete_queues,
    "messages duplicated": queue_faults.duplicate_messages,
    "artifacts deleted": artifact_faults.delete_artifacts,
    "artifacts truncated": artifact_faults.truncate_artifacts,
    "job cancelled": queue_faults.cancel_job,
}
"""The kinds that the last release survives as well."""

KINDS: dict[str, Inject] = {
    **OLD_KINDS,
    "S3 refuses uploads": partial(service_faults.refuse, methods=("PUT",)),
    "S3 refuses everything": service_faults.refuse,
    "artifacts changed": artifact_faults.change_artifacts,
    "artifacts swapped": artifact_faults.swap_artifacts,
    **{f"sick worker: {sickness}": partial(sick_workers.bring, sickness=sickness) for sickness in Sickness},
}
"""All kinds of faults. The order is part of the schedule of a seed."""


def schedule_faults(seed: int, count: int, seconds: float, mixed: float) -> list[Fault]:
    """Return `count` faults at random times within `seconds`, the kinds of each phase about equally frequent.

    In the first `mixed` seconds workers of the last release run. They fail jobs for reasons of their own, so only the
    kinds that they survive are injected.
    """
    rng = random.Random(f"faults {seed}")
    early = round(count * mixed / seconds)
    times = sorted(rng.uniform(0, mixed) for _ in range(early))
    times += sorted(rng.uniform(mixed, seconds) for _ in range(count - early))
    kinds = [*_draw(rng, list(OLD_KINDS), early), *_draw(rng, list(KINDS), count - early)]
    # One in three frozen workers continues before its heartbeat expires.
    return [
        Fault(at, kind, rng.uniform(0.5, 3 * WORKER_TTL), rng.random()) for at, kind in zip(times, kinds, strict=True)
    ]


def _draw(rng: random.Random, kinds: Sequence[str], count: int) -> list[str]:
    rounds = math.ceil(count / len(kinds))
    return [kind for _ in range(rounds) for kind in rng.sample(kinds, len(kinds))][:count]


class FaultInjector:
    """Injects faults into a system. `injected` counts those that hit something, by kind."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.injected: Counter[str] = Counter()

    def inject(self, fault: Fault) -> None:
        """Inject the fault and wait until it is over."""
        log.info("%s (%.1f s)", fault.kind, fault.duration)
        # A fault that needs a server cannot be injected while another fault has stopped that server.
        with suppress(ServiceError, redis.RedisError):
            self.injected[fault.kind] += KINDS[fault.kind](self._system, fault)
