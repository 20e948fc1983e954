"""Requests that are made at the same time, because each of them takes tens of milliseconds on AWS."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from diffedit.forks import PerProcess

T = TypeVar("T")

_threads = PerProcess(partial(ThreadPoolExecutor, 16, thread_name_prefix="object-store"))
"""As many as boto3 keeps connections."""


def all_at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of all calls. If calls fail, raise the first failure, but only after all have ended."""
    others = [_started(call) for call in calls[1:]]
    try:
        first = [call() for call in calls[:1]]
    finally:
        wait(others)
    return first + [other.result() for other in others]


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of the call, which goes on if it takes longer. Raises TimeoutError then."""
    return _started(call).result(seconds)


def _started(call: Callable[[], T]) -> "Future[T]":
    try:
        return _threads().submit(call)
    except RuntimeError:  # The main thread of the program has ended. Its other threads may still make calls.
        future: Future[T] = Future()
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)
        return future
