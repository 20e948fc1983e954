"""What became of the events of a job, as its record holds it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from diffedit.contract.webhooks import Delivery

_FIELD = "delivery:"


def delivery_field(event: str, state: str, attempts: int, at: float, error: str | None) -> dict[str, str]:
    """Return what a record says about an event."""
    about = {"state": state, "attempts": attempts, "at": f"{at:.6f}", **({"error": error} if error else {})}
    return {_FIELD + event: json.dumps(about)}


def deliveries_in(fields: Mapping[str, str]) -> tuple[Delivery, ...]:
    """Return what became of the events of a job, "started" first. Raises ValueError, TypeError, LookupError."""
    found = {name.removeprefix(_FIELD): json.loads(text) for name, text in fields.items() if name.startswith(_FIELD)}
    return tuple(
        Delivery(
            event=f"edit.{event}",
            state=about["state"],
            attempts=about["attempts"],
            at=datetime.fromtimestamp(float(about["at"]), UTC),
            error=about.get("error"),
        )
        for event, about in sorted(found.items(), key=lambda item: item[0] != "started")
    )
