"""How asynchronous classes make the calls of the others: in threads, with the same arguments, from one definition."""

import functools
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from diffedit.engine import Engine
from diffedit.forks import PerProcess
from diffedit.warned import collect_warnings

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


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
