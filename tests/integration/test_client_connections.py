"""How many connections a client opens, and that it closes them."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import redis
from celery import Celery
from pydantic import SecretStr

from diffedit import BrokerUnavailable, Client, Settings, State
from diffedit_worker.local.stack import LocalServices
from tests.support.fake_service import TEXTS, png

THREADS = 50

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")


@pytest.fixture
def connections(settings: Settings) -> Iterator[Callable[[], int]]:
    """How many connections the server has, besides those that it had at the start of the test."""
    server = redis.Redis.from_url(settings.redis_url.get_secret_value())
    before = {client["id"] for client in server.client_list()}
    yield lambda: len([client for client in server.client_list() if client["id"] not in before])
    server.close()


@pytest.mark.parametrize("limit", [4, 20])
def test_many_threads_share_a_bounded_number_of_connections(
    settings: Settings, connections: Callable[[], int], limit: int
) -> None:
    seen, ended = [0], threading.Event()

    def count() -> None:
        while not ended.is_set():
            seen.append(connections())

    def submit_and_poll(number: int) -> State:
        job = client.edit(png(), **TEXTS)
        job.status()
        job.cancel()
        return job.status().state

    counter = threading.Thread(target=count)
    with Client(settings.model_copy(update={"max_connections": limit})) as client:
        counter.start()
        try:
            with ThreadPoolExecutor(THREADS) as threads:
                states = list(threads.map(submit_and_poll, range(2 * THREADS)))
        finally:
            ended.set()
            counter.join()
    assert states == [State.CANCELLED] * 2 * THREADS
    # More than one connection proves that the threads did run at the same time.
    assert 1 < max(seen) <= limit


def test_a_closed_client_has_no_connections_and_connects_again(
    settings: Settings, connections: Callable[[], int]
) -> None:
    with Client(settings) as client:
        job = client.edit(png(), **TEXTS)
        assert connections() > 0
    assert connections() == 0

    assert job.cancel()
    again = client.edit(png(), **TEXTS)
    assert again.status().state is State.QUEUED
    assert client.health().object_store == "ok"
    again.cancel()
    client.close()
    assert connections() == 0
    client.close()  # a second time does no harm


def test_closing_a_client_leaves_another_one_usable(settings: Settings, connections: Callable[[], int]) -> None:
    with Client(settings) as kept:
        kept.edit(png(), **TEXTS).cancel()
        with Client(settings) as closed:
            closed.edit(png(), **TEXTS).cancel()
        job = kept.edit(png(), **TEXTS)
        assert job.cancel()
    assert connections() == 0


def test_a_client_leaves_the_connections_of_another_celery_application_alone(settings: Settings) -> None:
    # Given a program with a Celery application of its own, which is sending a message
    theirs = Celery("theirs", broker=settings.redis_url.get_secret_value(), set_as_current=False)
    theirs.conf.broker_pool_limit = 7
    with theirs.pool.acquire(block=True) as connection, Client(settings) as client:
        connection.connect()
        client.edit(png(), **TEXTS).cancel()
        client.close()
        assert connection.connected
    assert theirs.pool.limit == 7
    theirs.pool.force_close_all(close_pool=False)


def test_a_client_submits_without_celery(stack: LocalServices) -> None:
    code = """
import sys
from diffedit import Client
from diffedit_worker.local.stack import LocalServices
from tests.support.fake_service import TEXTS, png
Client.from_env().edit(png(), **TEXTS).cancel()
print(*[name for name in ("celery", "kombu") if name in sys.modules])
"""
    environment = {**os.environ, **stack.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split() == []


@pytest.fixture(
    params=["redis://{0}/0", "redis+sentinel://{0},{0},{0},{0},{0},{0},{0}/main/0"], ids=["one", "sentinels"]
)
def mute(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client whose Redis takes connections and never answers, like a network that swallows packets.

    Or whose seven sentinels do: they are asked one after the other, 2 s each, with one deadline for all.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        url = SecretStr(request.param.format(f"127.0.0.1:{server.getsockname()[1]}"))
        yield Client(settings.model_copy(update={"redis_url": url}))


@pytest.mark.timeout(60)
def test_no_call_outlasts_its_deadline_if_redis_never_answers(mute: Client) -> None:
    """Retries of commands and of handshakes multiplied to 258 seconds for each of these calls."""
    job = mute.job("a" * 32)
    calls: list[Callable[[], object]] = [
        job.status,
        partial(job.wait, timeout=5),
        job.cancel,
        mute.jobs,
        partial(mute.edit, png(), **TEXTS),
    ]

    def error_of(call: Callable[[], object]) -> type[Exception] | None:
        try:
            call()
        except Exception as error:
            return type(error)
        return None

    with ThreadPoolExecutor(len(calls) + 1) as threads:
        health = threads.submit(mute.health)
        assert list(threads.map(error_of, calls)) == [BrokerUnavailable] * len(calls)
    assert "Redis error" in health.result().broker


@pytest.mark.timeout(60)
def test_a_password_that_redis_refuses_is_not_tried_again(settings: Settings) -> None:
    url = settings.redis_url.get_secret_value()
    wrong = settings.model_copy(update={"redis_url": SecretStr(url.replace("@", "wrong@"))})
    attempts = redis.Redis.from_url(url).info("stats")["total_connections_received"]
    with pytest.raises(BrokerUnavailable, match=r"password|WRONGPASS"):
        Client(wrong).job("a" * 32).status()
    assert redis.Redis.from_url(url).info("stats")["total_connections_received"] - attempts <= 3
