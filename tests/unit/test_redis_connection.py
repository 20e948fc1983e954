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

    def __init__(self, error: redis.RedisError) -> None:
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
    answering = type("Answering", (redis_connection._Bounded, _Answering), {"refusals": connection.refusals})(error)
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
    answering = type("Answering", (redis_connection._Bounded, _Answering), {})(error)
    with pytest.raises(type(error)) as caught:
        answering.read_response()
    assert caught.value is error and not answering.closed


def test_a_full_memory_is_an_outage_to_a_worker_and_an_error_of_its_own_to_a_client() -> None:
    error = redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
    assert isinstance(error, transport.Transport.Channel.connection_class.refusals)
    assert not isinstance(error, redis_connection.Connection.refusals)
