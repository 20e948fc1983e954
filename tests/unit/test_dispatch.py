"""From a job to Celery, without a broker: what a client or a worker meets when Celery cannot send a message."""

import pytest
from celery.canvas import _chain
from kombu.exceptions import InconsistencyError, LimitExceeded, OperationalError
from redis import ConnectionError, OutOfMemoryError

from diffedit import BrokerFull, BrokerUnavailable, Settings
from diffedit.jobs.dispatch import celery_app, send
from tests.support.factories import a_job


def send_while_celery_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(chain: object) -> None:
        raise error

    monkeypatch.setattr(_chain, "apply_async", fail)
    send(celery_app(Settings()), a_job())


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("gone"),
        ConnectionError("gone"),
        InconsistencyError("gone"),
        LimitExceeded("gone"),
        TimeoutError("gone"),
        AttributeError("gone"),
        ValueError("gone"),
    ],
    ids=repr,
)
def test_whatever_celery_raises_becomes_an_error_of_ours(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(BrokerUnavailable, match=r"could not be queued: gone; check DIFFEDIT_REDIS_URL") as caught:
        send_while_celery_raises(monkeypatch, error)
    assert caught.value.__cause__ is error


def test_an_error_without_a_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerUnavailable, match="could not be queued: AssertionError"):
        send_while_celery_raises(monkeypatch, AssertionError())


def test_a_full_server_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerFull):
        send_while_celery_raises(monkeypatch, OutOfMemoryError("OOM"))


def test_an_interrupt_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        send_while_celery_raises(monkeypatch, KeyboardInterrupt())
