"""The outbox in the memory of this process, as that in Redis."""

import math
import time

from diffedit.contract.webhooks import WaitingEvents
from diffedit.jobs import outbox as outboxes
from diffedit.jobs.memory_state import MemoryState
from diffedit.jobs.outbox import PATIENCE, Event, event_of


class MemoryOutbox:
    """An `Outbox` in this process."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def claim(self, lease: float) -> Event | None:
        with self._state.lock:
            now, outbox = time.time(), self._state.outbox
            self._state.sender_until = now + outboxes.SENDER_TTL
            due = sorted((event["due"], event_id) for event_id, event in outbox.items() if float(event["due"]) <= now)
            if not due:
                return None
            _, event_id = due[0]
            event = outbox[event_id]
            event |= {"attempts": str(int(event["attempts"]) + 1), "due": f"{now + lease:.6f}"}
            event.setdefault("first", f"{now:.6f}")
            claimed = event_of(event_id, dict(event))
            self._state.note_delivery(claimed.job_id, claimed.name, "pending", claimed.attempt, now + lease)
            return claimed

    def settle(self, event: Event, error: str | None = None, delay: float = math.inf) -> None:
        with self._state.lock:
            now, held = time.time(), self._state.outbox.get(event.id)
            if held is None or held["attempts"] != str(event.attempt):
                return
            at, state = now + delay, "pending"
            if error is None or at > float(held["first"]) + PATIENCE:
                del self._state.outbox[event.id]
                at, state = now, "given_up" if error else "delivered"
            else:
                held["due"] = f"{at:.6f}"
            self._state.note_delivery(event.job_id, event.name, state, event.attempt, at, error)

    def waiting(self) -> WaitingEvents:
        with self._state.lock:
            now = time.time()
            due = sorted(at for event in self._state.outbox.values() if (at := float(event["due"])) <= now)
            return WaitingEvents(
                due=min(len(due), outboxes.MOST_COUNTED),
                oldest=now - due[0] if due else None,
                has_sender=self._state.sender_until > now,
            )
