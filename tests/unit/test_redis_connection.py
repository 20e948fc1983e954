"""Which answers of Redis are outages, and which messages a worker takes over its connections."""

import base64
import bz2
import json
from typing import Any

import pytest
import redis
from kombu import compression
from redis.exceptions import ClusterDownError, MasterDownError

from diffedit.jobs import redis_connection
from diffedit.redis_url import Sentinels
from diffedit_worker.celery_ext import transport

EMBED = [[], {}, {}]


def payload(body: bytes, **headers: str) -> dict[str, Any]:
    properties = {"body_encoding": "base64", "delivery_tag": "1", "delivery_info": {}}
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": properties,
    }


def test_a_message_is_taken_as_it_is() -> None:
    message = transport.Transport.Channel.Message(payload(json.dumps(EMBED).encode()), channel=_Plain())
    assert message.decode() == EMBED


@pytest.mark.parametrize("kind", sorted({*compression.encoders(), "application/x-bz2", "bzip2", "gzip"}))
def test_no_compressed_message_is_inflated(kind: str) -> None:
    with pytest.raises(ValueError, match="a compressed message"):
        transport.Transport.Channel.Message(payload(bz2.compress(bytes(10**7)), compression=kind), channel=_Plain())


class _Plain:
    """What a message needs of its channel."""

    body_encoding = None

    def decode_body(self, body: str, encoding: str | None = None) -> bytes:
        return base64.b64decode(body) if encoding == "base64" else body.encode()


class _Answering:
    """A connection whose server answers with an error."""

    socket_timeout = 10.0

    def __init__(self, error: redis.RedisError, **_: object) -> None:
        self._sock, self._error, self.closed = None, error, False

    def read_response(self) -> None:
        raise self._error

    def disconnect(self) -> None:
        self.closed = True


REFUSALS = [
    redis.ReadOnlyError("You can't write against a read only replica."),
    redis.ResponseError("MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist"),
    redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
    redis.ResponseError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."),
    redis.ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed"),
    ClusterDownError("The cluster is down"),
    MasterDownError("Link with MASTER is down and replica-serve-stale-data is set to 'no'."),
]


@pytest.mark.parametrize("connection", [redis_connection.Connection, transport.Transport.Channel.connection_class])
@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: str(error)[:12])
def test_a_server_that_refuses_every_write_is_an_outage(connection: Any, error: redis.RedisError) -> None:
    kind = type("Answering", (redis_connection._Bounded, _Answering), {"refusals": connection.refusals})
    answering = kind(error=error)
    with pytest.raises(redis.ConnectionError, match=str(error)[:12]):
        answering.read_response()
    assert answering.closed


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError("WRONGTYPE Operation against a key"),
        redis.ResponseError("ERR BUSY"),
        redis.DataError("x"),
    ],
)
def test_another_error_stays_what_it_is(error: redis.RedisError) -> None:
    answering = type("Answering", (redis_connection._Bounded, _Answering), {})(error=error)
    with pytest.raises(type(error)) as caught:
        answering.read_response()
    assert caught.value is error and not answering.closed


def test_a_full_memory_is_an_outage_to_a_worker_and_an_error_of_its_own_to_a_client() -> None:
    error = redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
    assert isinstance(error, transport.Transport.Channel.connection_class.refusals)
    assert not isinstance(error, redis_connection.Connection.refusals)


@pytest.mark.parametrize(
    ("hello", "problem"),
    [
        ({b"server": b"redis", b"version": b"6.2.14", b"mode": b"standalone"}, "Redis 6.2.14 is too old; Redis 7 or"),
        ({"server": "redis", "version": "6.0.0", "mode": "cluster"}, "Redis 6.0.0 is too old"),
        ({"server": "redis", "version": "7.0.15", "mode": "cluster"}, "cluster mode"),
        ({"server": "redis", "version": "6.2.14", "mode": "sentinel"}, r"redis\+sentinel://host:port/NAME/db"),
    ],
)
def test_a_server_of_the_wrong_kind_is_refused_with_the_reason(hello: dict[Any, Any], problem: str) -> None:
    with pytest.raises(redis_connection.UnusableServer, match=problem):
        redis_connection.check_server(hello)


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.2.1", "10.0.0", "9.1.0-rc1", ""])
def test_a_server_that_can_serve_is_used(version: str) -> None:
    redis_connection.check_server({b"server": b"valkey", b"version": version.encode(), b"mode": b"standalone"})
    redis_connection.check_server({})


SENTINELS = Sentinels(("redis://a:1/", "redis://:s3cret@b:2/", "redis://c:3/"), "main")


def primary_of(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> tuple[redis_connection.Primary, list[str]]:
    """Return what asks sentinels with these answers, and which ones it has asked."""
    asked = []

    def ask(self: redis_connection.Primary, url: str) -> tuple[str, int] | None:
        asked.append(url[-4])
        if isinstance(answer := answers[url[-4]], Exception):
            raise answer
        return answer

    monkeypatch.setattr(redis_connection.Primary, "_ask", ask)
    return redis_connection.Primary(SENTINELS), asked


def test_the_sentinel_that_answered_is_asked_first_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    primary, asked = primary_of(monkeypatch, {"a": redis.TimeoutError("mute"), "b": None, "c": ("10.0.0.1", 6379)})
    assert [primary.find(), primary.find()] == [("10.0.0.1", 6379)] * 2
    assert asked == ["a", "b", "c", "c"]


def test_if_no_sentinel_helps_the_error_has_the_reason_of_each_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    mute = redis.TimeoutError("mute")
    primary, _ = primary_of(monkeypatch, {"a": mute, "b": redis.AuthenticationError("wrong password"), "c": None})
    with pytest.raises(redis.ConnectionError, match="'main'") as caught:
        primary.find()
    assert "a:1: mute; b:2: wrong password; c:3: knows no primary of this name" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_connection_leaves_a_server_that_is_no_longer_the_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle one, too: a server that was frozen takes itself for the primary when it wakes up."""
    primary, _ = primary_of(monkeypatch, {"a": ("10.0.0.1", 6379)})

    class Server:
        socket_timeout = 10.0

        def __init__(self, **_: object) -> None:
            self._sock: Any = None
            self.host, self.port, self.connected = "", 0, []

        def connect(self) -> None:
            if not self._sock:
                self._sock = self._connect()

        def _connect(self) -> Any:
            self.connected.append(self.host)
            return object()

        def disconnect(self) -> None:
            self._sock = None

    connection = type("Connection", (redis_connection._Bounded, Server), {})(primary=primary)
    connection.connect()
    connection.connect()
    assert connection.connected == ["10.0.0.1"]
    answers = {"a": ("10.0.0.2", 6379)}
    monkeypatch.setattr(redis_connection.Primary, "_ask", lambda self, url: answers[url[-4]])
    primary.find()  # another connection does
    connection.connect()
    assert connection.connected == ["10.0.0.1", "10.0.0.2"]
