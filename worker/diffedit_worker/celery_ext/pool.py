"""Celery's thread pool, but it says when it is free, and frees itself of messages that no task can be made of.

With `worker_disable_prefetch` a worker asks for its next message only while it has fewer tasks than the pool has
places, and it looks whether that is so at every turn of its event loop. Nothing turns the loop when a task ends, so an
idle worker would leave each message lying for up to a second: more than most of what surrounds the model. Here the end
of a task turns it.

A job's last task, when it has `computed` and has but to store the result, leaves its place to the next task, which
computes meanwhile: the device does not wait for the upload. One task at a time may be behind like that. (An earlier
task keeps its place: its own successor is to come next, and no job from a queue that counts for less.)

Celery takes apart what a message carries besides its arguments (chain, callbacks, ...) in the thread. What breaks there
breaks unseen: the task counts as running for ever, and the worker never asks for another.
"""

import functools
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.thread import ApplyResult
from celery.concurrency.thread import TaskPool as ThreadPool

log = logging.getLogger(__name__)

BEHIND = 1
"""Tasks that may still be storing while the next one computes."""

_thread = threading.local()


def computed() -> None:
    """Said by a task: it needs the device no longer."""
    pool: TaskPool | None = getattr(_thread, "pool", None)
    if pool:
        pool.make_place()


class TaskPool(ThreadPool):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = ThreadPoolExecutor(self.limit + BEHIND)
        self._behind: set[int] = set()
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            end.setblocking(False)

    @property
    def num_processes(self) -> int:
        """Celery's name for the places of a pool."""
        return int(self.limit) + min(len(self._behind), BEHIND)

    def make_place(self) -> None:
        """The task of this thread counts no longer."""
        self._behind.add(threading.get_ident())
        self._ring()

    def on_stop(self) -> None:
        super().on_stop()
        self._ear.close()
        self._bell.close()

    def register_with_event_loop(self, loop: Any) -> None:
        loop.add_reader(self._ear, self._ear.recv, 4096)

    def on_apply(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> ApplyResult:
        result = super().on_apply(functools.partial(self._traced, target), *args, **kwargs)
        # A future is done after Celery's own book-keeping for the task, which is what the loop will look at.
        result.f.add_done_callback(self._ring)
        return result

    def _traced(self, target: Callable[..., Any], *args: Any) -> Any:
        """What `target` makes of a message: whether it failed, with what, and the seconds that it took."""
        _thread.pool = self
        try:
            return target(*args)
        except Exception as error:
            log.error("a message that is no Celery message is dropped (%s)", type(error).__name__)
            return True, ExceptionInfo(), 0.0
        finally:
            # Before Celery forgets the task: in between there shall not be a place too many.
            self._behind.discard(threading.get_ident())

    def _ring(self, _: Any = None) -> None:
        # Full of rings that will wake the loop anyway, or closed because the worker ends.
        with suppress(OSError):
            self._bell.send(b"!")
