"""SECURITY.md's users of Redis, over TLS: what they need they may do, and nothing else."""

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import trustme

from diffedit import BrokerUnavailable, Client, Settings, State
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app, send
from diffedit_worker.local.stack import Stack
from tests.acceptance.conftest import PEAR, QUICK, SAMPLES, until
from tests.support.factories import a_job, a_request

PICTURE = SAMPLES / "06.png"
SECURITY = Path(__file__).parents[2] / "SECURITY.md"
USERS = {
    name: rules.split()
    for name, rules in re.findall(r"^user diffedit-(\w+) (.*)$", SECURITY.read_text(), flags=re.MULTILINE)
}


class TlsProxy:
    """Speaks TLS on a port of its own, and plainly with the server behind it."""

    def __init__(self, certificate: trustme.LeafCert, server: tuple[str, int]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self._server = server
        self._listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            # A client that does not like the certificate hangs up.
            with suppress(ssl.SSLError, ConnectionError):
                visitor, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for ends in ((visitor, server), (server, visitor)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                sink.sendall(data)


@dataclass(frozen=True)
class House:
    """Services behind TLS, with a user for clients and one for workers, and such a worker."""

    stack: Stack
    server: redis.Redis
    port: int
    authority: Path
    stranger: int
    impostor: int

    def url(self, user: str, port: int | None = None, more: str = "") -> str:
        return f"rediss://diffedit-{user}:{user}-pass@127.0.0.1:{port or self.port}/0{more}"

    def settings(self, user: str) -> Settings:
        url = self.url(user, more=f"?ssl_ca_certs={self.authority}")
        return Settings.from_env({**self.stack.environment, "DIFFEDIT_REDIS_URL": url})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("house")
    authority = directory / "authority.pem"
    ours, theirs = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(authority)
    with Stack(directory / "stack") as stack:
        plain = stack.environment["DIFFEDIT_REDIS_URL"]
        server = redis.Redis.from_url(plain)
        for name, rules in USERS.items():
            password = [f">{name}-pass" if rule.startswith(">") else rule for rule in rules]
            server.execute_command("ACL", "SETUSER", f"diffedit-{name}", "reset", *password)
        place = ("127.0.0.1", int(plain.rpartition(":")[2].partition("/")[0]))
        certificates = ours.issue_cert("127.0.0.1"), theirs.issue_cert("127.0.0.1"), ours.issue_cert("redis.example")
        known, stranger, impostor = (TlsProxy(certificate, place).port for certificate in certificates)
        house = House(stack, server, known, authority, stranger, impostor)
        stack.environment |= {
            "DIFFEDIT_REDIS_URL": house.settings("worker").redis_url.get_secret_value(),
            "DIFFEDIT_WORKER_TTL": "2",
        }
        stack.start_worker()
        client = Client(house.settings("client"))
        until(lambda: client.health().ok, "a ready worker")
        yield house


def test_client_and_worker_do_all_their_work(house: House) -> None:
    house.server.execute_command("ACL", "LOG", "RESET")
    client = Client(house.settings("client"))
    first = client.edit(PICTURE, **PEAR, **QUICK, seed=1, idempotency_key="once")
    assert client.edit(PICTURE, **PEAR, **QUICK, seed=2, idempotency_key="once").id == first.id
    assert first.result(timeout=60).image.size == (64, 64)
    assert first.id in [status.id for status in client.jobs()]
    running = client.edit(PICTURE, **PEAR, num_inference_steps=500, caption="a pear of the house")
    until(lambda: running.status().step, "a running job")
    assert running.cancel()
    assert running.retry().cancel()
    # One that was never sent: the worker's keeper finds it.
    lost = a_job(a_request({**QUICK}, image=first.status().request.image))
    redis_backend(house.settings("client")).job_store.create_job(lost)
    assert client.job(lost.id).wait(timeout=60).state is State.SUCCEEDED
    assert house.server.execute_command("ACL", "LOG") == []


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET requirepass",
        "KEYS *",
        "SCAN 0",
        "ACL LIST",
        "SHUTDOWN NOSAVE",
        "MONITOR",
        "CLIENT LIST",
        "REPLICAOF 127.0.0.1 1",
        "MODULE LIST",
        "FUNCTION LIST",
        "GET elsewhere",
        "SET elsewhere 1",
        "PUBLISH elsewhere 1",
    ],
)
def test_nobody_may_do_more(house: House, user: str, command: str) -> None:
    server = redis.Redis.from_url(house.settings(user).redis_url.get_secret_value())
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.execute_command(*command.split())


@pytest.mark.parametrize(
    "command", ["LRANGE diffedit.tiny.language 0 -1", "BRPOP diffedit.tiny.language 1", "PUBLISH /0.celery.pidbox 1"]
)
def test_a_client_reads_no_queue_and_commands_no_worker(house: House, command: str) -> None:
    server = redis.Redis.from_url(house.settings("client").redis_url.get_secret_value())
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.execute_command(*command.split())


@pytest.mark.parametrize("user", USERS)
def test_no_script_does_what_its_user_may_not(house: House, user: str) -> None:
    server = redis.Redis.from_url(house.settings(user).redis_url.get_secret_value())
    script = server.script_load("return redis.call('FLUSHALL')")
    with pytest.raises(redis.exceptions.ResponseError, match="permissions|can't be run|NOPERM|ACL"):
        server.evalsha(script, 0)


@pytest.mark.parametrize(
    ("server", "more"),
    [
        ("stranger", ""),
        ("stranger", "?ssl_ca_certs={authority}"),
        ("stranger", "?ssl_cert_reqs=required"),
        ("impostor", "?ssl_ca_certs={authority}"),
    ],
)
def test_a_server_that_nobody_vouches_for_is_not_spoken_to(house: House, server: str, more: str) -> None:
    """Neither for the board, which is redis-py's, nor for messages: kombu's own default is to speak to anybody."""
    url = house.url("client", getattr(house, server), more.format(authority=house.authority))
    settings = Settings(redis_url=url)
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        redis_backend(settings).job_store.ping()
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        send(celery_app(settings), a_job())


def test_a_worker_does_not_speak_to_it_either(house: House) -> None:
    stack, environment = house.stack, house.stack.environment
    stack.environment = {**environment, "DIFFEDIT_REDIS_URL": house.url("worker", house.stranger)}
    worker = stack.start_worker("careful", ["elsewhere"])
    log = stack.directory / "logs/careful.log"
    try:
        until(lambda: "Cannot connect to" in log.read_text(), "a refusal")
        assert "CERTIFICATE_VERIFY_FAILED" in log.read_text()
    finally:
        stack.environment = environment
        stack.stop(worker)
