"""The faults of a chaos run: all kinds, and their schedule, drawn from a seed."""

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import redis

from benchmarks.chaos import artifact_faults, queue_faults, service_faults, sick_workers, worker_faults
from benchmarks.chaos.sickness import Sickness
from benchmarks.chaos.system import Fault, System
from diffedit.errors import ServiceError
from diffedit_worker.local.stack import S3, VALKEY

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
    "S3 frozen": partial(service_faults.freeze, server=S3),
    "queues deleted": queue_faults.delete_queues,
    "messages duplicated": queue_faults.duplicate_messages,
    "artifacts deleted": artifact_faults.delete_artifacts,
    "artifacts truncated": artifact_faults.truncate_artifacts,
    "job cancelled": queue_faults.cancel_job,
}
"""The kinds that the last release survives as well."""

NEW_KINDS: dict[str, Inject] = {
    "S3 refuses uploads": partial(service_faults.refuse, methods=("PUT",)),
    "S3 refuses everything": service_faults.refuse,
    "S3 slow": service_faults.slow_down,
    "Valkey frozen": partial(service_faults.freeze, server=VALKEY),
    "Valkey refuses": service_faults.refuse_writes,
    "artifacts changed": artifact_faults.change_artifacts,
    "artifacts swapped": artifact_faults.swap_artifacts,
}
SICK_WORKERS: dict[str, Inject] = {
    f"sick worker: {sickness}": partial(sick_workers.bring, sickness=sickness) for sickness in Sickness
}
SENDERS: dict[str, Inject] = {"sender of webhooks killed": worker_faults.kill_sender}
KINDS = {**OLD_KINDS, **NEW_KINDS, **SICK_WORKERS, **SENDERS}
"""All kinds of faults. The order is part of the schedule of a seed."""


def schedule_faults(seed: int, count: int, sick: int, seconds: float, mixed: float) -> list[Fault]:
    """Return `count` faults and `sick` sick workers at random times within `seconds`, the kinds about equally frequent.

    A sender of webhooks is killed for every second of the faults, as one more.

    In the first `mixed` seconds workers of the last release run. They fail jobs for reasons of their own, so only the
    kinds that they survive are injected.
    """
    rng = random.Random(f"faults {seed}")
    early = round(count * mixed / seconds)
    kinds = _draw(rng, OLD_KINDS, early)
    kinds += [*_draw(rng, {**OLD_KINDS, **NEW_KINDS}, count - early), *_draw(rng, SICK_WORKERS, sick)]
    faults = []
    for number, kind in enumerate(kinds):
        at = rng.uniform(0, mixed) if number < early else rng.uniform(mixed, seconds)
        # One in three frozen workers continues before its heartbeat expires.
        faults.append(Fault(at, kind, rng.uniform(0.5, 3 * WORKER_TTL), rng.random()))
    # Drawn apart, so that the other faults of a seed are those of the documented runs.
    rng = random.Random(f"senders {seed}")
    killed = _draw(rng, SENDERS, max(1, count // 2))
    return [*faults, *(Fault(rng.uniform(mixed, seconds), kind, 0, rng.random()) for kind in killed)]


def _draw(rng: random.Random, kinds: Iterable[str], count: int) -> list[str]:
    """Return `count` kinds, in rounds over all of them."""
    names = list(kinds)
    rounds = math.ceil(count / len(names))
    return [kind for _ in range(rounds) for kind in rng.sample(names, len(names))][:count]


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
