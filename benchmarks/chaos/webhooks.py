"""Webhooks in a chaos run: a receiver that often fails, senders that are killed, and what arrived in the end."""

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.webhook_receiver import Handler, Receiver, receiving
from diffedit import JobStatus
from diffedit.webhooks.signing import new_secret, signed_headers
from diffedit_worker.local.process_group import ProcessGroup

SENDERS = 2
TAKEN, REFUSED = 0.6, 0.8
"""Up to these parts of all requests are taken, or refused with an error of the server. The others get no answer."""
LONGEST_ANSWER = 1.5
"""Seconds that the receiver takes to answer, at most."""
GRACE = 20.0
"""Seconds that a sender has to finish what it sends."""


@dataclass
class WebhookOutcome:
    """What came of the events.

    Attributes:
        taken: how many requests the receiver has answered with success.
        repeated: how many of them were of an event that it had taken before.
        refused: how many requests it has answered with an error, or not at all.
        undelivered: the jobs with a webhook that have ended, and whose end never arrived.
        false: a sentence for each event that was not signed by the sender, of a job that nobody submitted, or of an end
            that the job did not have.
    """

    taken: int
    repeated: int
    refused: int
    undelivered: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.undelivered or self.false)


class Webhooks:
    """The receiver and the senders.

    Attributes:
        url: where events are sent.
    """

    def __init__(self, receiver: Receiver, senders: ProcessGroup, environment: Mapping[str, str]) -> None:
        self.url = receiver.url
        self._secret = new_secret()
        self._senders = senders
        self._environment = {
            **environment,
            "DIFFEDIT_WEBHOOK_SECRETS": self._secret,
            "DIFFEDIT_WEBHOOK_ALLOW": "127.0.0.0/8",
        }
        self._locks = [threading.Lock() for _ in range(SENDERS)]
        self._dice = random.Random(receiver.url)
        self._taken: list[tuple[Mapping[str, str], bytes]] = []
        self._requests = receiver.requests
        receiver.usual = self._answer

    def start(self) -> None:
        """Start the senders."""
        for number in range(SENDERS):
            self._start(number)

    def kill_sender(self, pick: float) -> None:
        """Kill a sender, chosen by a number from 0 up to but not including 1, and start it again."""
        number = int(pick * SENDERS)
        with self._locks[number]:
            process = self._senders.processes[_name(number)]
            process.kill()
            process.wait()
            self._start(number)

    def stop(self) -> None:
        """Stop the senders when they have finished what they send."""
        self._senders.end(list(self._senders.processes.values()), GRACE)

    def outcome(self, statuses: Mapping[str, JobStatus | None]) -> WebhookOutcome:
        """Return what came of the events of the jobs, whose statuses are given by id."""
        found = [(_id_of(headers), self._contradiction(headers, body, statuses)) for headers, body in self._taken]
        events = Counter(event for event, wrong in found if not wrong)
        ended = [each for each in statuses.values() if each and each.is_terminal and each.options.webhook]
        return WebhookOutcome(
            taken=len(found),
            repeated=events.total() - len(events),
            refused=len(self._requests) - len(found),
            undelivered=[each.id for each in ended if f"{each.id}.{each.state.value}" not in events],
            false=[f"{event}: {wrong}" for event, wrong in found if wrong],
        )

    def _start(self, number: int) -> None:
        command = [sys.executable, "-m", "benchmarks.chaos.webhook_sender"]
        self._senders.start(_name(number), command, environment=self._environment)

    def _answer(self, handler: Handler) -> None:
        """Take an event, refuse it, or close the connection, after a while."""
        chance = self._dice.random()
        time.sleep(LONGEST_ANSWER * self._dice.random() ** 2)
        if chance < TAKEN:
            self._taken.append(({name.lower(): text for name, text in handler.headers.items()}, handler.body))
        if chance < REFUSED:
            handler.send_response(204 if chance < TAKEN else 500)
            handler.end_headers()

    def _contradiction(
        self, headers: Mapping[str, str], body: bytes, statuses: Mapping[str, JobStatus | None]
    ) -> str | None:
        """Return what is wrong with an event that was taken, if anything is."""
        event, at = _id_of(headers), headers.get("webhook-timestamp", "")
        signed = signed_headers(event, int(at) if at.isdecimal() else 0, body, [self._secret])
        if headers.get("webhook-signature") != signed["webhook-signature"]:
            return "the signature is wrong"
        content, (job_id, _, name) = json.loads(body), event.partition(".")
        if (content["data"]["id"], content["type"]) != (job_id, f"edit.{name}"):
            return f"the event is {content['type']} of {content['data']['id']}"
        status = statuses.get(job_id)
        if status is None:
            return "nobody has submitted this job"
        return None if name in ("started", status.state.value) else f"the job is {status.state.value}"


@contextmanager
def webhooks(directory: Path, environment: Mapping[str, str]) -> Iterator[Webhooks]:
    """Run a receiver, and senders with this environment, whose logs lie in `directory`."""
    with receiving() as receiver, ProcessGroup(directory) as senders:
        yield Webhooks(receiver, senders, environment)


def _name(number: int) -> str:
    return f"sender{number}"


def _id_of(headers: Mapping[str, str]) -> str:
    return headers.get("webhook-id", "")
