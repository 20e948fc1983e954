"""A thread that runs functions for other threads and survives their interrupts."""

import _thread
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class ChildThread:
    """Runs one function at a time, in one thread.

    A ThreadPoolExecutor would do the same, but an interrupt can leave one of its locks held for ever: Python may raise
    KeyboardInterrupt between the acquisition of a lock and the `with` block that releases it. The executor then hangs,
    and so does everybody who waits for it. SimpleQueue and start_new_thread are written in C and have no such moment.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]] | None] = SimpleQueue()
        _thread.start_new_thread(self._run, ())

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in the thread. Return its result, or raise its exception."""
        answer: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()
        self._calls.put((lambda: function(*args, **kwargs), answer))
        result, error = answer.get()
        if error is not None:
            raise error
        return result  # type: ignore[return-value] # without an error there is a result

    def stop(self) -> None:
        """Let the thread end after the calls that were made before."""
        self._calls.put(None)

    def _run(self) -> None:
        while call := self._calls.get():
            function, answer = call
            try:
                answer.put((function(), None))
            except BaseException as error:
                answer.put((None, error))
