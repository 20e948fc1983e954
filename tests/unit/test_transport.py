"""The transport drops a malformed message and keeps the worker alive."""

import logging
from queue import Empty
from types import SimpleNamespace

import pytest
import redis
from celery.worker.state import reserved_requests, task_reserved

from diffedit_worker.celery_ext.transport import Transport

FILE_NUMBER = 7


class FakeQoS:
    """The part of kombu's quality-of-service object that the transport uses."""

    def __init__(self) -> None:
        self._delivered = {"earlier": "message"}
        self.acknowledged: list[str] = []

    def ack(self, tag: str) -> None:
        self.acknowledged.append(tag)
        del self._delivered[tag]


class FakeRequest:
    """A task that Celery has begun to make of a message."""

    def __init__(self, name: str) -> None:
        self.id, self.name = name, name


class FakeCycle:
    """kombu's poller, with one message that raises `error` when it is processed."""

    def __init__(self, error: Exception | None, request: FakeRequest | None = None) -> None:
        self.qos = FakeQoS()
        self._fd_to_chan = {FILE_NUMBER: (SimpleNamespace(qos=self.qos), "BRPOP")}
        self.error, self.request = error, request

    def on_readable(self, fileno: int) -> None:
        self.qos._delivered["current"] = "message"
        if self.request:
            task_reserved(self.request)
        if self.error:
            raise self.error


def transport_with(cycle: FakeCycle) -> Transport:
    transport = Transport.__new__(Transport)
    transport.cycle = cycle
    return transport


def test_a_well_formed_message_is_left_to_celery() -> None:
    cycle = FakeCycle(error=None)
    transport_with(cycle).on_readable(FILE_NUMBER)
    assert cycle.qos._delivered.keys() == {"earlier", "current"}


@pytest.mark.parametrize("error", [ValueError("s3cret"), KeyError("s3cret"), TypeError("s3cret"), redis.DataError()])
def test_a_malformed_message_is_acknowledged_and_not_quoted(error: Exception, caplog) -> None:
    cycle = FakeCycle(error)
    with caplog.at_level(logging.ERROR):
        transport_with(cycle).on_readable(FILE_NUMBER)
    assert cycle.qos.acknowledged == ["current"]
    assert cycle.qos._delivered.keys() == {"earlier"}
    assert type(error).__name__ in caplog.text
    assert "s3cret" not in caplog.text


def test_the_task_of_a_malformed_message_is_forgotten() -> None:
    earlier, request = FakeRequest("earlier"), FakeRequest("current")
    task_reserved(earlier)
    transport_with(FakeCycle(ValueError(), request)).on_readable(FILE_NUMBER)
    assert earlier in reserved_requests and request not in reserved_requests


@pytest.mark.parametrize("error", [Empty(), OSError("reset"), ConnectionResetError(), redis.ConnectionError("lost")])
def test_an_empty_queue_and_a_lost_connection_are_left_to_celery(error: Exception) -> None:
    cycle = FakeCycle(error)
    with pytest.raises(type(error)):
        transport_with(cycle).on_readable(FILE_NUMBER)
    assert cycle.qos.acknowledged == []
