"""Record the calls of a function without changing what it does."""

import functools
from typing import Any

import pytest


def spy(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[tuple[Any, ...]]:
    """Return a list to which each call of `owner.name` appends its positional arguments; the original still runs."""
    original = getattr(owner, name)
    calls: list[tuple[Any, ...]] = []

    @functools.wraps(original)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, recorded)
    return calls
