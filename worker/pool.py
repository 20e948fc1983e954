"""Celery's thread pool, but it says when it is free, and frees itself of messages that no task can be made of.

With `worker_disable_prefetch` a worker asks for its next message only while a thread is free, and it looks whether one
is at every turn of its event loop. Nothing turns the loop when a task ends, so an idle worker would leave each message
lying for up to a second: more than most of what surrounds the model. Here the end of a task turns it.

Celery takes apart what a message carries besides its arguments (chain, callbacks, ...) in the thread. What breaks there
breaks unseen: the task counts as running for ever, and the worker never asks for another.
"""

import functools
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.thread import ApplyResult
from celery.concurrency.thread import TaskPool as ThreadPool

log = logging.getLogger(__name__)


class TaskPool(ThreadPool):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            end.setblocking(False)

    def on_stop(self) -> None:
        super().on_stop()
        self._ear.close()
        self._bell.close()

    def register_with_event_loop(self, loop: Any) -> None:
        loop.add_reader(self._ear, self._ear.recv, 4096)

    def on_apply(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> ApplyResult:
        result = super().on_apply(functools.partial(_traced, target), *args, **kwargs)
        # A future is done after Celery's own book-keeping for the task, which is what the loop will look at.
        result.f.add_done_callback(self._ring)
        return result

    def _ring(self, _: Any) -> None:
        # Full of rings that will wake the loop anyway, or closed because the worker ends.
        with suppress(OSError):
            self._bell.send(b"!")


def _traced(target: Callable[..., Any], *args: Any) -> Any:
    """What `target` makes of a message: whether it failed, with what, and the seconds that it took."""
    try:
        return target(*args)
    except Exception as error:
        log.error("a message that is no Celery message is dropped (%s)", type(error).__name__)
        return True, ExceptionInfo(), 0.0
