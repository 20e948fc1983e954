"""Requests that are made at the same time, because each of them takes tens of milliseconds on AWS.

Threads help with the calls, and nothing waits for a thread that has taken none: a process that was forked in C, or a
server that lets no other threads run (uWSGI's default), makes all calls in the thread that asks.
"""

import _thread
import contextvars
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

MOST_THREADS = 16
"""As many as boto3 keeps connections."""

_pids = [os.getpid()]
os.register_at_fork(after_in_child=lambda: _pids.__setitem__(0, os.getpid()))


def all_at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of all calls. If calls fail, raise the first failure, but only after all have ended."""
    results: list[Any] = [None] * len(calls)
    failures: dict[int, BaseException] = {}
    todo = iter(range(len(calls)))  # `next` on it is atomic
    done = threading.Semaphore(0)

    def work() -> None:
        for place in todo:
            try:
                results[place] = calls[place]()
            except BaseException as error:
                failures[place] = error
            done.release()

    for _ in range(min(len(calls), MOST_THREADS) - 1):
        _start(work)
    work()
    for _ in calls:
        done.acquire()
    if failures:
        raise failures[min(failures)]
    return results


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of the call, which goes on if it takes longer. Raises TimeoutError then."""
    results: list[T] = []
    failures: list[BaseException] = []
    ended = threading.Event()

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            failures.append(error)
        ended.set()

    if not _start(work):
        work()
    if not ended.wait(seconds):
        raise TimeoutError(f"no answer within {seconds:g} s")
    if failures:
        raise failures[0]
    return results[0]


def _start(work: Callable[[], object]) -> bool:
    """Let a thread do the work, with the context variables of the caller. Return whether there may be one."""
    if os.getpid() != _pids[0]:
        return False  # forked in C: none of Python's hooks has run, and a new thread might never run
    # `threading.Thread.start` would wait until the thread runs.
    with suppress(RuntimeError):
        _thread.start_new_thread(contextvars.copy_context().run, (work,))
        return True
    return False
