"""Record the calls of a function without changing what it does."""

import functools
from collections.abc import Callable
from typing import Any

import pytest


def spy(monkeypatch: pytest.MonkeyPatch, owner: object, *names: str) -> list[tuple[Any, ...]]:
    """Return a list to which each call of these methods of `owner` appends its positional arguments, in order."""
    calls: list[tuple[Any, ...]] = []
    for name in names:
        monkeypatch.setattr(owner, name, _recorded(getattr(owner, name), calls))
    return calls


def _recorded(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return function(*args, **kwargs)

    return recorded
