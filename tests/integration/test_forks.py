"""A client that was used before a fork: its child shares no connection and no lock with it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import trustme

from diffedit import Client, Settings, State
from diffedit.contract.object_keys import input_key
from diffedit.objects import s3
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices
from tests.support.fake_service import TEXTS, png
from tests.support.forking import fork_in_c, in_child, in_children
from tests.support.proxies import Exchange, FaultProxy, TlsProxy

pytestmark = pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")

FORKS = pytest.mark.parametrize("fork", [os.fork, fork_in_c])


@pytest.fixture
def proxy(settings: Settings) -> Iterator[FaultProxy]:
    assert settings.s3_endpoint_url
    with FaultProxy(settings.s3_endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def client(settings: Settings, proxy: FaultProxy) -> Iterator[Client]:
    """A client that reaches S3 through the proxy, and that has used all of its connections."""
    with Client(settings.model_copy(update={"s3_endpoint_url": proxy.url})) as client:
        use(client)
        yield client


def use(client: Client) -> State:
    """Use each connection that a client has: to the job store, to the broker and to S3."""
    job = client.edit(png(), **TEXTS)
    job.status()
    job.cancel()
    assert client.health().object_store == "ok"
    return job.status().state


def connections_of(settings: Settings, call: Callable[[], object]) -> set[str]:
    """Make a call, and return the clients' ends of the connections over which commands came to Redis meanwhile."""
    server = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    seen = set()
    with server.monitor() as monitor:
        call()
        server.echo("the end")
        while "the end" not in (command := monitor.next_command())["command"]:
            if command["client_type"] == "tcp":
                seen.add(command["client_port"])
    return seen - {command["client_port"]}


@FORKS
def test_a_child_opens_connections_of_its_own_to_redis_and_to_the_broker(
    client: Client, settings: Settings, fork: Callable[[], int]
) -> None:
    answers = []
    parents = connections_of(settings, lambda: use(client))
    childs = connections_of(settings, lambda: answers.append(in_child(lambda: use(client), fork)))
    assert answers == [State.CANCELLED]
    assert parents and childs and not parents & childs
    # The child has neither closed nor used what is its parent's.
    assert connections_of(settings, lambda: use(client)) == parents


@FORKS
def test_a_child_opens_connections_of_its_own_to_s3(client: Client, proxy: FaultProxy, fork: Callable[[], int]) -> None:
    answers = []
    parents = proxy.peers_of(client.health)
    childs = proxy.peers_of(lambda: answers.append(in_child(lambda: use(client), fork)))
    assert answers == [State.CANCELLED]
    assert parents and childs and not parents & childs
    assert proxy.peers_of(client.health) == parents


def test_a_child_of_a_child_has_its_own_connections_too(client: Client, proxy: FaultProxy) -> None:
    answers = []
    parents = proxy.peers_of(client.health)
    childs = proxy.peers_of(lambda: in_child(client.health))
    # An edit has one connection for the picture and one for the copy of the submission, or the same one for both.
    answers.append(in_child(lambda: (use(client), in_child(lambda: use(client)))))
    both = proxy.peers_of(lambda: in_child(lambda: (client.health(), in_child(client.health))))
    assert answers == [(State.CANCELLED, State.CANCELLED)]
    assert len(both) == 2 * len(childs) and not both & parents


def test_children_that_read_at_the_same_time_get_what_each_asked_for(settings: Settings) -> None:
    object_store = S3ObjectStore(settings)
    pictures = [png((64, 64), f"#{number:02x}40a0") for number in range(6)]
    keys = [input_key(picture, "png") for picture in pictures]
    for key, picture in zip(keys, pictures, strict=True):
        object_store.put(key, picture)

    def reads(number: int) -> list[bool]:
        return [object_store.get(keys[number]) == pictures[number] for _ in range(20)]

    for _ in range(8):
        object_store.get(keys[0])  # the parent leaves an open connection
        assert in_children([partial(reads, number) for number in range(6)]) == [[True] * 20] * 6


def test_a_child_that_is_forked_in_the_middle_of_a_request_makes_its_own(client: Client, proxy: FaultProxy) -> None:
    proxy.meets("HEAD", Exchange.is_slow, seconds=0.5)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.health().object_store))
    thread.start()
    while proxy.pending:  # until the request has begun
        time.sleep(0.001)
    assert in_child(lambda: use(client)) == State.CANCELLED
    thread.join()
    assert answers == ["ok"]


@pytest.mark.parametrize("delay", [0, 0.052, 0.055, 0.06, 0.065, 0.07])  # from the middle to the end of the making
def test_a_child_does_not_wait_for_what_a_thread_of_its_parent_was_making(
    settings: Settings, monkeypatch, delay: float
) -> None:
    begun, boto3_client = threading.Event(), s3._boto3_client

    def slow_boto3_client(*arguments: object) -> object:
        begun.set()
        time.sleep(0.05)
        return boto3_client(*arguments)

    monkeypatch.setattr(s3, "_boto3_client", slow_boto3_client)
    with Client(settings) as client:
        thread = threading.Thread(target=use, args=(client,))
        thread.start()
        assert begun.wait(30)
        time.sleep(delay)
        assert in_child(lambda: use(client)) == State.CANCELLED
        thread.join()


ENDING_CHILDREN = """
import multiprocessing, os, sys, warnings
from diffedit import Client
from tests.support.fake_service import TEXTS, png

warnings.simplefilter("ignore")
client = Client.from_env()

def use():
    client.edit(png(), **TEXTS).cancel()

def connection():
    return client._job_store._server.connection.client_id()

use()
before = connection()
process = multiprocessing.get_context("fork").Process(target=use)
process.start()
process.join()
if not (pid := os.fork()):
    use()
    sys.exit()
_, status = os.waitpid(pid, 0)
use()
print(process.exitcode, status, connection() == before)
"""


def test_children_that_end_as_any_program_leave_the_tls_connections_of_their_parent_open(
    stack: LocalServices, tmp_path: Path
) -> None:
    authority, plain = trustme.CA(), urlsplit(stack.environment["DIFFEDIT_REDIS_URL"])
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    proxy = TlsProxy(authority.issue_cert("127.0.0.1"), ("127.0.0.1", plain.port or 0))
    url = f"rediss://:{plain.password}@127.0.0.1:{proxy.port}/0?ssl_ca_certs={tmp_path / 'authority.pem'}"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**os.environ, **stack.environment, **paths, "DIFFEDIT_REDIS_URL": url}
    ended = subprocess.run([sys.executable, "-c", ENDING_CHILDREN], env=environment, capture_output=True, text=True)
    assert ended.stdout.split() == ["0", "0", "True"], ended.stderr
