"""Celery's thread pool, but it says when it is free.

With `worker_disable_prefetch` a worker asks for its next message only while a thread is free, and it looks whether one
is at every turn of its event loop. Nothing turns the loop when a task ends, so an idle worker would leave each message
lying for up to a second: more than most of what surrounds the model. Here the end of a task turns it.
"""

import socket
from contextlib import suppress
from typing import Any

from celery.concurrency.thread import ApplyResult
from celery.concurrency.thread import TaskPool as ThreadPool


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

    def on_apply(self, *args: Any, **kwargs: Any) -> ApplyResult:
        result = super().on_apply(*args, **kwargs)
        # A future is done after Celery's own book-keeping for the task, which is what the loop will look at.
        result.f.add_done_callback(self._ring)
        return result

    def _ring(self, _: Any) -> None:
        # Full of rings that will wake the loop anyway, or closed because the worker ends.
        with suppress(OSError):
            self._bell.send(b"!")
