"""Calls that are made at the same time, and what becomes of their failures."""

import contextvars
import threading

import pytest

from diffedit import at_once
from diffedit.at_once import MOST_THREADS, all_at_once, within


def test_calls_are_made_at_the_same_time_and_answered_in_order() -> None:
    together = threading.Barrier(MOST_THREADS, timeout=30)
    assert all_at_once([lambda: together.wait() >= 0] * MOST_THREADS) == [True] * MOST_THREADS
    assert all_at_once([lambda number=number: number for number in range(100)]) == list(range(100))
    assert all_at_once([]) == []


def test_the_first_failure_is_raised_when_all_have_ended() -> None:
    ended = []

    def fail(error: BaseException) -> None:
        ended.append(error)
        raise error

    errors = [KeyError("second"), ValueError("third")]
    with pytest.raises(KeyError):
        all_at_once([lambda: ended.append(None), *(lambda error=error: fail(error) for error in errors)])
    assert len(ended) == 3


@pytest.mark.parametrize("reason", ["forked in C", "no more threads"])
def test_without_threads_all_calls_are_made(monkeypatch, reason: str) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(at_once, "_pids", [0] if reason == "forked in C" else at_once._pids)
    monkeypatch.setattr(at_once._thread, "start_new_thread", refuse)
    assert all_at_once([threading.get_ident] * 3) == [threading.get_ident()] * 3
    assert within(1, threading.get_ident) == threading.get_ident()


def test_a_thread_has_the_context_variables_of_the_caller() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("set")
    assert within(30, variable.get) == "set"


def test_a_call_that_takes_too_long_is_not_waited_for() -> None:
    held = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, held.wait)
    held.set()
    with pytest.raises(KeyError):
        within(30, lambda: {}["missing"])
