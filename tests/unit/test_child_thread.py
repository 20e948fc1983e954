"""The thread that starts and stops child processes."""

import _thread
import signal
import threading

import pytest

from diffedit_worker.local.child_thread import ChildThread


def test_a_call_returns_the_result_of_the_function() -> None:
    thread = ChildThread()
    assert thread.call(lambda one, *, other: (one, other), 1, other=2) == (1, 2)
    assert thread.call(_thread.get_ident) != _thread.get_ident()
    assert thread.call(_thread.get_ident) == thread.call(_thread.get_ident)
    thread.stop()


def test_a_call_raises_the_exception_of_the_function_and_the_thread_continues() -> None:
    thread = ChildThread()
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0)
    assert thread.call(lambda: None) is None
    thread.stop()


def test_an_interrupt_ends_the_wait_for_a_call_and_not_the_thread() -> None:
    thread, resume = ChildThread(), threading.Event()

    def interrupted() -> None:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        resume.wait(timeout=60)

    with pytest.raises(KeyboardInterrupt):
        thread.call(interrupted)
    resume.set()
    assert thread.call(lambda: "still there") == "still there"
    thread.stop()
