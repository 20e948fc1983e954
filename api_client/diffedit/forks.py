"""Values that belong to one process: a forked child makes its own.

Without that a child would send its requests over the connections of its parent, each would read answers to the other's
requests, and a lock that another thread of the parent held at the fork would stay locked in the child for ever.
"""

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that is made when it is used for the first time, once in each process. For any thread.

    Whatever holds connections, locks or threads belongs into one of these:

        self._server = PerProcess(partial(connect, settings))
        self._server().ping()

    A fork waits while a value is being made, so `make` should be quick.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._pid = os.getpid()
        _values.add(self)

    def __call__(self) -> T:
        """Return the value of this process."""
        if self._pid != os.getpid():
            _after_fork_in_child()  # a fork in C runs none of Python's hooks, and uWSGI's is one by default
        made = self._made
        if not made:
            with _making:
                if not made:
                    made.append(self._make())
        return made[0]

    @property
    def made(self) -> T | None:
        """The value of this process, if it has been made."""
        return self._made[0] if self._made and self._pid == os.getpid() else None

    def forget_inherited(self) -> None:
        _inherited.append(self._made)
        # In this order: a thread that sees the new process must not see the old value.
        self._made = []
        self._pid = os.getpid()


def made_side_by_side(owner: type[T]) -> type[T]:
    """Let several instances of a class make their cached properties at the same time.

    Python 3.11 has one lock for all instances, so that one download would wait for all others. 3.12 has none.
    """
    for attribute in vars(owner).values():
        if isinstance(attribute, functools.cached_property):
            vars(attribute)["lock"] = nullcontext()
    return owner


_LIBRARIES = ("diffedit", "celery", "kombu")
"""Where cached properties are used by a client."""
_values: "weakref.WeakSet[PerProcess[Any]]" = weakref.WeakSet()
_making = threading.RLock()
"""Held while a value is made. The imports in `make` have locks, too, which a fork in the middle would leave locked."""
_inherited: list[list[Any]] = []
"""What the ancestors of this process have made. It is kept, because a client's finalizer may wait for a lock that
another thread held at the fork, and may tell the server that a connection ends which the parent still uses."""


def _after_fork_in_child() -> None:
    global _making
    _making = threading.RLock()
    _renew_property_locks()
    for value in list(_values):
        value.forget_inherited()


def _renew_property_locks() -> None:
    """Replace the locks of the cached properties of all classes that are loaded.

    Python 3.11's cached property, and kombu's, has one lock for all instances. It is held while a value is made, which
    may be a download.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _LIBRARIES:
            # Not isinstance: it would ask Celery's proxies for their class, which uses such a property.
            for owner in [each for each in vars(module).values() if issubclass(type(each), type)]:
                for attribute in vars(owner).values():
                    # Python 3.12 has no lock, and some of our classes need none.
                    is_cached = issubclass(type(attribute), functools.cached_property)
                    if is_cached and not isinstance(getattr(attribute, "lock", nullcontext()), nullcontext):
                        attribute.lock = threading.RLock()


os.register_at_fork(
    before=lambda: _making.acquire(), after_in_parent=lambda: _making.release(), after_in_child=_after_fork_in_child
)
