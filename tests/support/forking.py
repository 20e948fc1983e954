"""Run functions in forked children of the test's process."""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

SECONDS = 30
"""After which a child that hangs is killed."""

_libc = ctypes.PyDLL(None)  # holds the GIL during its calls


def fork_in_c() -> int:
    """Fork without any of Python's hooks, as uWSGI does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        # By its end each other thread of the test sleeps until it gets the GIL. In the moment in which it begins to, it
        # holds a lock that only Python's hooks would renew in the child.
        _libc.usleep(50_000)
        return int(_libc.fork())
    finally:
        sys.setswitchinterval(interval)


class Child:
    """A child that runs `call`. It ends without Python's clean-up, so that nothing of pytest runs in it."""

    def __init__(self, call: Callable[[], Any], fork: Callable[[], int] = os.fork) -> None:
        self._reader, writer = os.pipe()
        self._pid = fork()
        if self._pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            try:
                try:
                    answer: Any = call()
                except BaseException as error:
                    answer = f"{type(error).__name__}: {error}"
                with os.fdopen(writer, "wb") as pipe:
                    pickle.dump(answer, pipe)
            finally:
                os._exit(0)
        os.close(writer)

    def answer(self) -> Any:
        """Return what `call` has returned, or its error as a text."""
        with os.fdopen(self._reader, "rb") as pipe:
            data = pipe.read()
        os.waitpid(self._pid, 0)
        return pickle.loads(data) if data else "the child hung"


def in_child(call: Callable[[], Any], fork: Callable[[], int] = os.fork) -> Any:
    """Run `call` in a child and return what it returns, or its error as a text."""
    return Child(call, fork).answer()


def in_children(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run each of `calls` in a child of its own, all at the same time."""
    return [child.answer() for child in [Child(call) for call in calls]]
