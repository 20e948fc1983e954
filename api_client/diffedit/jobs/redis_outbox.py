"""The outbox in Redis or Valkey."""

import math
from typing import cast

from diffedit.contract.webhooks import WaitingEvents
from diffedit.jobs import outbox
from diffedit.jobs.outbox import PATIENCE, Event, event_of
from diffedit.jobs.redis_server import RedisServer, translate_errors


class RedisOutbox:
    """An `Outbox` in Redis or Valkey."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    @translate_errors
    def claim(self, lease: float) -> Event | None:
        answer = cast(list[str], self._server.run("claim_webhook", lease=lease, sender_ttl=outbox.SENDER_TTL))
        if not answer:
            return None
        event_id, *flat = answer
        return event_of(event_id, dict(zip(flat[::2], flat[1::2], strict=True)))

    @translate_errors
    def settle(self, event: Event, error: str | None = None, delay: float = math.inf) -> None:
        self._server.run(
            "settle_webhook",
            id=event.id,
            job_id=event.job_id,
            event=event.name,
            attempt=str(event.attempt),
            error=error,
            delay=min(delay, 10 * PATIENCE),
            patience=PATIENCE,
        )

    @translate_errors
    def waiting(self) -> WaitingEvents:
        answer = cast(tuple[int, str, int], self._server.run("waiting_webhooks", most=outbox.MOST_COUNTED))
        due, age, has_sender = answer
        return WaitingEvents(due=due, oldest=float(age) if age else None, has_sender=bool(has_sender))
