"""How asynchronous classes make the calls of the others: in threads, with the same arguments, from one definition."""

import functools
import warnings
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from diffedit.forks import PerProcess
from diffedit.jobs.store import StatusReading
from diffedit.threads import Threads
from diffedit.warned import collect_warnings
from diffedit.watcher import Watchers

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

Statuses = Callable[[Mapping[str, StatusReading | None]], Mapping[str, StatusReading]]
"""`JobStore.statuses`."""


class Engine:
    """What an asynchronous client shares with its jobs and results: the threads, and the watchers of jobs."""

    def __init__(self, statuses: Statuses, threads: int) -> None:
        self.threads = Threads(threads, "diffedit")
        # Of its own, so that many calls do not delay the news.
        self._watching = Threads(1, "diffedit-watcher")
        self.watchers = Watchers(lambda jobs: self._watching.run(lambda: statuses(jobs)))

    async def close(self) -> None:
        """End the threads, when they have made the calls that were asked for."""
        await self.threads.close()
        await self._watching.close()


class Asynchronous(Generic[T]):
    """The base of a class that makes the calls of another one, which blocks."""

    def __init__(self, blocking: T, engine: PerProcess[Engine]) -> None:
        self._blocking = blocking
        self._engine = engine


class AsyncMethod(Protocol[P, R_co]):
    """What type checkers take `forwarded` for: a method whose arguments are those of the method that it calls."""

    def __get__(self, instance: Any, owner: Any = None, /) -> Callable[P, Coroutine[Any, Any, R_co]]: ...


@overload
def forwarded(method: Callable[Concatenate[Any, P], R]) -> AsyncMethod[P, R]: ...
@overload
def forwarded(
    method: Callable[Concatenate[Any, P], R], convert: Callable[[R, PerProcess[Engine]], S]
) -> AsyncMethod[P, S]: ...
def forwarded(method: Callable[..., Any], convert: Callable[[Any, PerProcess[Engine]], Any] | None = None) -> Any:
    """Return a coroutine method of an `Asynchronous` class that calls `method` in a thread.

    Its arguments, errors and warnings are those of `method`. `convert` makes its answer from that of `method`.
    """

    @functools.wraps(method)
    async def call(self: Asynchronous[Any], *args: Any, **kwargs: Any) -> Any:
        issued: list[Warning] = []

        def in_thread() -> Any:
            collected = collect_warnings()
            answer = method(self._blocking, *args, **kwargs)
            issued.extend(collected)
            return answer

        answer = await self._engine().threads.run(in_thread)
        for warning in issued:
            warnings.warn(warning, stacklevel=2)
        return convert(answer, self._engine) if convert else answer

    return call
