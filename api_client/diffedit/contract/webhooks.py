"""Webhooks: where the events of a job are sent, and what became of them."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from diffedit.contract.validation import Frozen

MAX_URL = 2000
"""Characters of a URL, at most."""


def _checked_url(url: str) -> str:
    # A line break in a URL would be one in the request.
    if not (len(url) <= MAX_URL and url.isascii() and url.isprintable() and " " not in url):
        raise ValueError(f"must be a URL of at most {MAX_URL} printable ASCII characters")
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ValueError("must be a URL such as https://example.com/hooks")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must contain neither a password nor a fragment; the signature shows who sends")
    return url


WebhookUrl = Annotated[str, AfterValidator(_checked_url)]
"""Where events are sent. http:// is sent to allowed private addresses only (`DIFFEDIT_WEBHOOK_ALLOW`)."""


class DeliveryState(StrEnum):
    """What became of an event."""

    PENDING = "pending"
    """It will be sent, for the first time or again."""
    DELIVERED = "delivered"
    """The receiver answered with a status from 200 to 299."""
    GIVEN_UP = "given_up"
    """It was tried for a day, or the receiver answered 410. `resend_webhook` sends it again."""


class Delivery(Frozen):
    """What became of one event of a job with a webhook."""

    event: str
    """"edit.started", "edit.succeeded", "edit.failed", "edit.cancelled" or "edit.expired"."""
    state: DeliveryState
    """"pending", "delivered" or "given_up"."""
    attempts: int = Field(ge=0)
    """How often sending was begun."""
    at: datetime
    """When it was delivered or given up; while it is pending, when it is sent next."""
    error: str | None = None
    """Why the last attempt failed."""


UNSENT_AFTER = 60.0
"""Seconds after which an event that no sender takes is a reason for a warning."""


class WaitingEvents(Frozen):
    """The events of all jobs that are due and have not been sent."""

    due: int = Field(0, ge=0)
    """How many there are, at most 1000. An event whose next attempt lies in the future is not due."""
    oldest: float | None = Field(None, ge=0)
    """Since how many seconds the oldest of them is due."""
    has_sender: bool = False
    """Whether a sender (`diffedit webhooks`) has looked for events in the last minute."""

    @property
    def unsent(self) -> bool:
        """Whether events have waited for more than a minute, and no sender runs."""
        return not self.has_sender and self.oldest is not None and self.oldest > UNSENT_AFTER
