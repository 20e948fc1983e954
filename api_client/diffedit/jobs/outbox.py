"""The outbox: events that have to be sent to webhooks.

The script that starts or ends a job puts the event into the outbox, so that both happen or none. The event holds all
that will be sent, so it outlives the job's record. It stays there until it is settled: a sender that claims it only
moves it to a later time. If the sender dies, the event is due again at that time. So every event is sent at least once,
and a receiver may get one twice.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from diffedit.contract.job import State
from diffedit.contract.validation import TRACEPARENT
from diffedit.contract.webhooks import WaitingEvents

PATIENCE = 24 * 3600
"""Seconds after the first attempt in which an event is sent again."""
KEPT_FOR = 30 * 24 * 3600
"""Seconds for which an event waits if nothing sends events."""
SENDER_TTL = 60
"""Seconds after which a sender that has not looked for events counts as gone. An attempt takes less."""
MOST_COUNTED = 1000
"""Events that are due, of which the number is told."""
COPIED = ("webhook", "owner", "tags", "error", "created", "started", "finished", "outcome", "traceparent")
"""The fields of a job's record that an event holds."""


class Event(NamedTuple):
    """An event that was claimed.

    Attributes:
        id: `<job id>.<name>`, the same in all attempts; then `.<n>` if the job was retried in place n times before.
        name: "started", or how the job ended.
        attempt: which attempt this is, from 1.
        fields: what it holds, as in `diffedit:webhook:<id>`.
    """

    id: str
    job_id: str
    name: str
    attempt: int
    fields: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.fields["webhook"]

    @property
    def owner(self) -> str | None:
        return self.fields.get("owner")

    @property
    def traceparent(self) -> str | None:
        """The span that submitted the job, if its client was traced and nothing has damaged it."""
        text = self.fields.get("traceparent", "")
        return text if TRACEPARENT.fullmatch(text) else None


class Outbox(Protocol):
    """The events to send."""

    def claim(self, lease: float) -> Event | None:
        """Return an event that is due and that no other sender has for the next `lease` seconds; None if none is."""

    def settle(self, event: Event, error: str | None = None, delay: float = math.inf) -> None:
        """Record what came of an attempt. Nothing happens if another sender has claimed the event meanwhile.

        Args:
            event: the event.
            error: why it could not be delivered; None if it was.
            delay: seconds until the next attempt. There is none after `PATIENCE`.
        """

    def waiting(self) -> WaitingEvents:
        """Return how many events are due, `MOST_COUNTED` at most, and whether a sender lives."""


def event_of(event_id: str, fields: Mapping[str, str]) -> Event:
    job_id, name, *_ = event_id.split(".")
    return Event(event_id, job_id, name, int(fields["attempts"]), fields)


def payload_of(event: Event) -> dict[str, Any]:
    """Return what is sent, as Standard Webhooks has it. Raises ValueError, LookupError, TypeError: it is damaged."""
    fields = event.fields
    error = json.loads(fields["error"]) if "error" in fields and event.name == State.FAILED.value else None
    return {
        "type": f"edit.{event.name}",
        "timestamp": _iso(fields["started" if event.name == "started" else "finished"]),
        "data": {
            "id": event.job_id,
            "state": State.RUNNING.value if event.name == "started" else event.name,
            "owner": event.owner,
            "tags": json.loads(fields.get("tags", "{}")),
            "error": {"code": error["code"], "stage": error.get("stage")} if error else None,
            "created_at": _iso(fields["created"]),
            "started_at": _iso(fields["started"]) if "started" in fields else None,
            "finished_at": _iso(fields["finished"]) if "finished" in fields else None,
        },
    }


def _iso(text: str) -> str:
    return datetime.fromtimestamp(float(text), UTC).isoformat()
