"""The census of a fleet in Redis or Valkey: four round trips, however many jobs there are."""

from collections import Counter
from collections.abc import Sequence

from pydantic import ValidationError

from diffedit.contract.stages import Stage
from diffedit.jobs import keys
from diffedit.jobs.census import (
    FleetCensus,
    QueueCensus,
    durations_in,
    parse_queue,
)
from diffedit.jobs.redis_entries import SHOWN_FOR, Command, RedisEntries
from diffedit.jobs.redis_server import RedisServer, translate_errors
from diffedit.jobs.workers import Trouble, TroubleKind, WorkerInfo, read_info


class RedisCensus:
    """A `Census` in Redis or Valkey. It only reads, but for damaged keys, which it notes."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._entries = RedisEntries(server)

    @translate_errors
    def take(self) -> FleetCensus:
        now = self._server.now()
        ever, ids, names, paused, draining, due, unsent, sender, damaged, overdue = self._entries.read_all(
            [
                ("smembers", keys.WAITING_QUEUES),
                ("smembers", keys.WORKERS),
                ("smembers", keys.TROUBLES),
                ("hkeys", keys.PAUSED),
                ("smembers", keys.DRAINING),
                ("zcount", keys.WEBHOOKS, "-inf", now),
                ("zcard", keys.WEBHOOKS),
                ("get", keys.WEBHOOK_SENDER),
                ("zcount", keys.DAMAGED, now - SHOWN_FOR, "+inf"),
                ("zcount", keys.EXPIRING, "-inf", now),
            ]
        )
        workers, troubles = self._announced(sorted(ids), sorted(names))
        served = {queue for worker in workers for queue in worker.queues}
        queues = {name: parts for name in sorted({*ever, *served, *paused}) if (parts := parse_queue(name))}
        profiles = sorted({parts.profile for parts in queues.values()})
        counts, durations = self._counts(list(queues), profiles, now)
        return FleetCensus(
            at=now,
            queues={queues[name]: count._replace(paused=name in paused) for name, count in counts.items()},
            durations=durations,
            workers=workers,
            draining=draining,
            troubles=troubles,
            due_events=due,
            unsent_events=unsent,
            has_sender=sender is not None,
            damaged=damaged,
            overdue=overdue,
        )

    def _announced(self, ids: Sequence[str], names: Sequence[str]) -> tuple[list[WorkerInfo], dict[TroubleKind, int]]:
        """Return the live ones of these workers, and how many of these names have reported a trouble of each kind."""
        texts = self._entries.read_all(
            [("get", keys.HEARTBEAT + each) for each in ids] + [("get", keys.TROUBLE + each) for each in names]
        )
        heartbeats, reports = texts[: len(ids)], texts[len(ids) :]
        workers = [read_info(*each) for each in zip(ids, heartbeats, strict=True) if each[1] is not None]
        kinds = Counter(kind for text in reports if text is not None and (kind := _kind_of(text)))
        return sorted(workers, key=lambda worker: worker.name), dict(kinds)

    def _counts(
        self, queues: Sequence[str], profiles: Sequence[str], now: float
    ) -> tuple[dict[str, QueueCensus], dict[str, dict[Stage, float]]]:
        """Return what is counted of these queues, and the durations of these profiles, in one round trip."""
        commands: list[Command] = [("hgetall", keys.DURATIONS + profile) for profile in profiles]
        for queue in queues:
            waiting = keys.WAITING + queue
            commands += [("zcard", waiting), ("hlen", keys.RUNNING_IN + queue), ("zrange", waiting, 0, 0, False, True)]
        answers = self._entries.read_all(commands)
        durations, rest = answers[: len(profiles)], iter(answers[len(profiles) :])
        counts = {
            queue: QueueCensus(next(rest), next(rest), max(0.0, now - first[0][1]) if (first := next(rest)) else None)
            for queue in queues
        }
        return counts, {profile: durations_in(fields) for profile, fields in zip(profiles, durations, strict=True)}


def _kind_of(text: str) -> TroubleKind | None:
    try:
        return Trouble.model_validate_json(text).kind
    except ValidationError:
        return None
