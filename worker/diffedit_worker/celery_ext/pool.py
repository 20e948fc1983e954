"""Celery's thread pool with four changes.

1. It wakes Celery's event loop when a task ends. With `worker_disable_prefetch`, a worker asks for its next message
   only while it has fewer tasks than the pool has slots, and it checks that at each turn of its loop. Without the
   wake-up an idle worker would leave a message in the queue for up to a second, more than most of a job's other costs.
2. The last task of a job can release its slot when it only has to upload the result. Another task then computes
   during the upload. Only a job's last stage does so. Otherwise a batch job could run between two stages of an
   interactive one. As many tasks can upload as can compute.
3. It can be paused, so that the worker takes no messages.
4. It drops a malformed message. Celery unpacks the parts of a message besides its arguments (chain, callbacks) in the
   thread. An error there goes unnoticed: the task would count as running for ever, and the worker would never ask for
   another message.
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

_thread = threading.local()


def release_slot() -> None:
    """Release the slot of the task that calls this. Without effect outside of a pool."""
    pool: TaskPool | None = getattr(_thread, "pool", None)
    if pool:
        pool.release_slot()


class TaskPool(ThreadPool):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.executor = ThreadPoolExecutor(2 * self.limit)
        self._paused = False
        self._uploading: set[int] = set()
        """The threads whose tasks have released their slots."""
        self._wakeup_reader, self._wakeup_writer = socket.socketpair()
        for end in (self._wakeup_reader, self._wakeup_writer):
            end.setblocking(False)

    @property
    def num_processes(self) -> int:
        """The number of slots. The name is Celery's."""
        return 0 if self._paused else int(self.limit) + min(len(self._uploading), int(self.limit))

    def release_slot(self) -> None:
        """Add a slot while the task of this thread uploads its result."""
        self._uploading.add(threading.get_ident())
        self._wake()

    def set_paused(self, paused: bool) -> None:
        """Take no more messages, or take them again. Tasks that run go on."""
        self._paused = paused
        self._wake()

    def on_stop(self) -> None:
        super().on_stop()
        self._wakeup_reader.close()
        self._wakeup_writer.close()

    def register_with_event_loop(self, loop: Any) -> None:
        loop.add_reader(self._wakeup_reader, self._wakeup_reader.recv, 4096)

    def on_apply(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> ApplyResult:
        result = super().on_apply(functools.partial(self._run_task, target), *args, **kwargs)
        # The future is done only after Celery's own book-keeping for the task, which the loop looks at next.
        result.f.add_done_callback(self._wake)
        return result

    def _run_task(self, target: Callable[..., Any], *args: Any) -> Any:
        """Run Celery's function for a message. Returns what it returns: (failed, result or error, seconds)."""
        _thread.pool = self
        try:
            return target(*args)
        except Exception as error:
            log.error("dropping a malformed Celery message (%s)", type(error).__name__)
            return True, ExceptionInfo(), 0.0
        finally:
            # Remove the extra slot before Celery releases the task. Otherwise the pool counts one slot too many.
            self._uploading.discard(threading.get_ident())

    def _wake(self, _: Any = None) -> None:
        # The socket is full of bytes that will wake the loop anyway, or it is closed because the worker ends.
        with suppress(OSError):
            self._wakeup_writer.send(b"!")
