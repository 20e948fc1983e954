"""The sender: takes events out of the outbox, and sends each until it is delivered or a day has passed."""

import json
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.client import HTTPException
from importlib.metadata import version

from diffedit import tracing
from diffedit.errors import DiffEditError
from diffedit.jobs.outbox import PATIENCE, Event, Outbox, payload_of
from diffedit.settings import Settings
from diffedit.webhooks.addresses import Forbidden, networks_of
from diffedit.webhooks.posting import post
from diffedit.webhooks.signing import secrets_of, signed_headers

log = logging.getLogger(__name__)

LEASE = 120.0
"""Seconds after which an event is due again if its sender dies. More than an attempt takes, DNS included."""
FIRST_DELAY, LONGEST_DELAY, GROWTH = 5.0, 3600.0, 3.0
"""Seconds between attempts: 5, 15, 45, 135, 405, 1215, then an hour each, all of them varied by a quarter."""
POLL = 1.0
"""Seconds between two looks into an empty outbox."""


class Sender:
    """Sends the events of one outbox. Any number of senders may do so at the same time, in any number of processes."""

    def __init__(self, settings: Settings, outbox: Outbox, *, context: ssl.SSLContext | None = None) -> None:
        """Make a sender. `context` says which certificates are trusted; the system's by default.

        Raises:
            InvalidRequest: `webhook_secrets` or `webhook_allow` is missing or not valid.
        """
        self._outbox = outbox
        self._context = context
        secret = settings.webhook_secrets
        self._setting = secret.get_secret_value() if secret else None
        secrets_of(self._setting, None)
        self._allowed = networks_of(settings.webhook_allow)
        self._agent = f"diffedit/{version('diffedit-service')}"

    def send_next(self) -> bool:
        """Send an event that is due, once. Return whether there was one."""
        event = self._outbox.claim(LEASE)
        if event:
            self._send(event)
        return event is not None

    def run(self, stop: threading.Event, threads: int = 8) -> None:
        """Send events as they become due, up to `threads` at the same time, until `stop` is set."""
        with ThreadPoolExecutor(threads, thread_name_prefix="webhooks") as pool:
            for _ in range(threads):
                pool.submit(self._serve, stop)

    def _serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if self.send_next():
                    continue
            except DiffEditError as error:  # Redis is away: what was claimed is due again after its lease
                log.warning("webhooks: %s", error)
            except Exception:  # a thread that ends would never be missed
                log.exception("webhooks")
            stop.wait(POLL * random.uniform(0.75, 1.25))  # noqa: S311

    def _send(self, event: Event) -> None:
        error, is_final = self._attempt(event)
        if error is None:
            log.info("webhook %s delivered, attempt %d", event.id, event.attempt)
            self._outbox.settle(event)
        else:
            log.warning("webhook %s not delivered, attempt %d: %s", event.id, event.attempt, error)
            self._outbox.settle(event, error, 2.0 * PATIENCE if is_final else delay_after(event.attempt))

    def _attempt(self, event: Event) -> tuple[str | None, bool]:
        """Send an event once. Return why it was not delivered, if it was not, and whether no other attempt can help."""
        try:
            body = json.dumps(payload_of(event), separators=(",", ":")).encode()
        except (ValueError, LookupError, TypeError, OverflowError):
            return "the event is damaged", True
        parent = tracing.trace_of(event.job_id, event.traceparent)
        with tracing.span(f"webhook {event.name}", "CLIENT", parent=parent) as span:
            span.set({"diffedit.job": event.job_id, "diffedit.attempt": event.attempt, "diffedit.owner": event.owner})
            # A sender that is not traced hands the job's trace on.
            trace = span.traceparent or event.traceparent
            error, is_final = self._post(event, body, {"traceparent": trace} if trace else {}, span)
            if error is not None:
                span.fail(error)
            return error, is_final

    def _post(
        self, event: Event, body: bytes, more: Mapping[str, str], span: tracing.ActiveSpan
    ) -> tuple[str | None, bool]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self._agent,
            **more,
            **signed_headers(event.id, int(time.time()), body, secrets_of(self._setting, event.owner)),
        }
        try:
            status = post(event.url, body, headers, self._allowed, self._context)
        except Forbidden as error:
            return str(error), False
        except (OSError, ValueError, HTTPException) as error:
            # Without details: the message may name an address of our network.
            return f"no answer: {type(error).__name__}", False
        except Exception as error:
            log.exception("webhook %s", event.id)
            return f"no answer: {type(error).__name__}", False
        span.set({"http.response.status_code": status})
        if 200 <= status < 300:
            return None, False
        return f"the answer was {status}", status == HTTPStatus.GONE


def delay_after(attempt: int, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Return the seconds between this attempt, from 1, and the next one."""
    return min(FIRST_DELAY * GROWTH ** min(attempt - 1, 20), LONGEST_DELAY) * jitter(0.75, 1.25)
