"""An asynchronous generator as an iterator of a program without an event loop. A thread runs the loop meanwhile."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeVar

from diffedit.engine import Engine

A = TypeVar("A")
T = TypeVar("T")

Generate = Callable[[AsyncIterator[A], Engine], AsyncGenerator[T, None]]
"""Makes the generator from the items of the caller, and from what makes calls and follows jobs."""


def iterate(
    items: Iterable[A], generate: "Generate[A, T]", make_engine: Callable[[], Engine]
) -> Generator[T, None, None]:
    """Yield what the generator yields.

    `items` is only used in the thread of the caller, and only while the caller waits for the next value: it may read
    from a database that belongs to this thread. An error of `items` is raised here. When this iterator is closed, the
    generator is, and its thread ends.
    """
    loop = _LoopThread(generate, make_engine)
    iterator = iter(items)
    try:
        while (event := loop.events.get()) is not None:
            if isinstance(event, Future):
                if not event.set_running_or_notify_cancel():
                    continue  # the generator has ended with an error
                # A list, so that any value can be an item, and an empty one for the end.
                event.set_result([item] if (item := next(iterator, _END)) is not _END else [])
            else:
                yield from event
    finally:
        loop.close()
    if loop.error:
        raise loop.error


_END: Any = object()


class _LoopThread(Generic[A, T]):
    """A thread with an event loop that runs a generator.

    Attributes:
        events: what the thread has for the caller: a future for the next item, a list of values, None at the end.
        error: what the generator has raised.
    """

    def __init__(self, generate: "Generate[A, T]", make_engine: Callable[[], Engine]) -> None:
        self.events: queue.SimpleQueue[Future[list[A]] | list[T] | None] = queue.SimpleQueue()
        self.error: Exception | None = None
        self._generate = generate
        self._make_engine = make_engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        # A program that ends without closing the iterator must not wait for jobs.
        self._thread = threading.Thread(target=self._run, name="diffedit-loop", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the generator, and wait for the calls that it has begun."""
        self._started.wait()
        assert self._loop and self._task
        with suppress(RuntimeError):  # it has ended, and its loop is closed
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                asyncio.run(self._main())
        finally:
            self.events.put(None)

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._started.set()
        engine = self._make_engine()
        try:
            async with aclosing(self._generate(self._items(), engine)) as values:
                async for value in values:
                    self.events.put([value])
        except Exception as error:
            self.error = error
        finally:
            await engine.close()

    async def _items(self) -> AsyncIterator[A]:
        while True:
            future: Future[list[A]] = Future()
            self.events.put(future)
            if not (item := await asyncio.wrap_future(future)):
                return
            yield item[0]
