"""`diffedit webhooks` over a real Redis, killed at any moment: every event arrives at least once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from diffedit import Client, JobHandle, Settings, State
from diffedit.contract.webhooks import DeliveryState
from diffedit.jobs import keys
from diffedit.webhooks.signing import new_secret, signed_headers
from diffedit_worker.local.stack import LocalServices
from tests.support.fake_service import TEXTS, png
from tests.support.services import client_of, redis_of, until_on_disk
from tests.support.waiting import until
from tests.support.webhook_receiver import Handler, Receiver, receiving

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
SECRET = new_secret()
ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from diffedit.webhooks import sender
sender.LEASE, sender.FIRST_DELAY, sender.LONGEST_DELAY, sender.POLL = 1.0, 0.05, 0.2, 0.05
from diffedit.cli import app
app(["webhooks", "--threads", "4"])
"""
"""The command with delays that suit a test."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@contextmanager
def sending(stack: LocalServices, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command, and kill it at the end."""
    environment = {**os.environ, **stack.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"DIFFEDIT_WEBHOOK_SECRETS": SECRET, "DIFFEDIT_WEBHOOK_ALLOW": "127.0.0.0/8"}
    with (
        (tmp_path / "webhooks.log").open("ab") as log,
        subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def cancelled(client: Client, receiver: Receiver, number: int = 0) -> JobHandle:
    job = client.edit(png(), **TEXTS, seed=number, webhook=receiver.url)
    job.cancel()
    return job


def arrived(receiver: Receiver) -> set[str]:
    return {json.loads(body)["data"]["id"] for _, _, body in list(receiver.requests)}


def is_settled(job: JobHandle) -> bool:
    return all(each.state is DeliveryState.DELIVERED for each in job.status().deliveries)


def test_a_sender_that_is_killed_at_any_moment_loses_nothing(
    stack: LocalServices, receiver: Receiver, tmp_path: Path
) -> None:
    client, dice = client_of(stack), random.Random(7)

    def misbehave(handler: Handler) -> None:
        time.sleep(dice.uniform(0, 0.1))
        if dice.random() < 0.7:
            handler.send_response(204 if dice.random() < 0.7 else 503)
            handler.end_headers()

    receiver.answers = [misbehave] * 10_000
    jobs = [cancelled(client, receiver, number) for number in range(30)]
    kills = 0
    while kills < 6:
        with sending(stack, tmp_path) as process:
            before, deadline = len(receiver.requests), time.monotonic() + 30
            while len(receiver.requests) == before and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(dice.uniform(0, 0.15))
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        jobs += [cancelled(client, receiver, 100 + 10 * kills + more) for more in range(3)]
    receiver.answers = []
    with sending(stack, tmp_path):
        until(lambda: all(map(is_settled, jobs)), "all events delivered", 60)
    assert arrived(receiver) == {job.id for job in jobs}
    server = redis_of(stack)
    assert (server.zcard(keys.WEBHOOKS), server.keys(f"{keys.WEBHOOK}*")) == (0, [])
    for _, headers, body in receiver.requests:
        at = int(headers["webhook-timestamp"])
        assert headers.items() >= signed_headers(headers["webhook-id"], at, body, [SECRET]).items()


def test_a_sender_finishes_what_it_sends_before_it_ends(
    stack: LocalServices, receiver: Receiver, tmp_path: Path
) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.5)
        handler.send_response(204)
        handler.end_headers()

    receiver.answers = [slow]
    with sending(stack, tmp_path) as process:
        job = cancelled(client_of(stack), receiver)
        until(lambda: receiver.requests, "the request", 30)
        process.terminate()
        assert process.wait(20) == 0
    (delivery,) = job.status().deliveries
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[LocalServices]:
    with LocalServices(tmp_path / "stack") as stack:
        yield stack


def test_redis_is_killed_in_the_middle(own_stack: LocalServices, receiver: Receiver, tmp_path: Path) -> None:
    client = Client(Settings.from_env(own_stack.environment))
    with sending(own_stack, tmp_path):
        until(lambda: is_settled(cancelled(client, receiver)) or receiver.requests, "the first request", 30)
        jobs = [cancelled(client, receiver, number) for number in range(20)]
        until_on_disk(own_stack)
        valkey = own_stack.processes["valkey"]
        os.kill(valkey.pid, signal.SIGKILL)
        own_stack.stop(valkey)
        time.sleep(1)
        own_stack.start_valkey()
        own_stack.wait_ready()
        until(lambda: all(map(is_settled, jobs)), "all events delivered", 60)
    assert arrived(receiver) >= {job.id for job in jobs}


def test_what_somebody_puts_into_the_outbox_stops_nothing(
    stack: LocalServices, receiver: Receiver, tmp_path: Path
) -> None:
    client, server = client_of(stack), redis_of(stack)
    replaced, emptied, unreadable, good = [cancelled(client, receiver, number) for number in range(4)]
    server.set(f"{keys.WEBHOOK}{replaced.id}.cancelled", "x")
    server.delete(f"{keys.WEBHOOK}{emptied.id}.cancelled")
    server.hset(f"{keys.WEBHOOK}{unreadable.id}.cancelled", mapping={"created": "x", "attempts": "x", "first": "x"})
    server.zadd(keys.WEBHOOKS, {"": 0, "x": 0, f"{good.id}.cancelled.x": 0})
    with sending(stack, tmp_path):
        until(lambda: server.zcard(keys.WEBHOOKS) == 0, "an empty outbox", 30)
    assert arrived(receiver) == {good.id} and is_settled(good)
    (delivery,) = unreadable.status().deliveries
    assert (delivery.state, delivery.error) == (DeliveryState.GIVEN_UP, "the event is damaged")
    assert emptied.status().state is replaced.status().state is State.CANCELLED
    assert "Traceback" not in (tmp_path / "webhooks.log").read_text()


def test_the_example_takes_what_is_signed_and_nothing_else(stack: LocalServices, tmp_path: Path) -> None:
    environment = {**os.environ, "DIFFEDIT_WEBHOOK_SECRETS": f"{new_secret()}, {SECRET}"}
    command = [sys.executable, str(ROOT / "examples/webhook_receiver.py"), "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as example:
        assert example.stdout is not None
        try:
            url = example.stdout.readline().strip()
            assert httpx.post(url, json={"type": "edit.failed", "data": {"id": "0"}}, timeout=60).status_code == 400
            job = client_of(stack).edit(png(), **TEXTS, webhook=url)
            job.cancel()
            with sending(stack, tmp_path):
                assert example.stdout.readline() == f"edit.cancelled {job.id}\n"
                until(lambda: is_settled(job), "the event delivered", 30)
        finally:
            example.kill()
