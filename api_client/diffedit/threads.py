"""Threads in which an event loop makes calls that block."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from diffedit.errors import ClientBusy

T = TypeVar("T")

MAX_WAIT = 60.0
"""Seconds for which a call waits until a thread is free, at most."""


class Threads:
    """A number of threads, for any event loop of this process. They start when they are needed."""

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """Make the call in a thread, with the context variables of the caller, and return what it returns.

        If the caller is cancelled, a call that has not begun is not made, and one that has begun goes on to its end.

        Raises:
            ClientBusy: all threads were busy for MAX_WAIT seconds.
        """
        begin_until = time.monotonic() + MAX_WAIT

        def punctual() -> T:
            if time.monotonic() > begin_until:
                raise ClientBusy(MAX_WAIT)
            return call()

        context = contextvars.copy_context()
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._number, thread_name_prefix=self._name)
            future = self._executor.submit(context.run, punctual)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """End the threads, after the calls that were asked for. Later calls start new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor:
            await asyncio.to_thread(executor.shutdown)
