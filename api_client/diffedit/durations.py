"""Durations as users write them, one way for every command and method: "90s", "30m", "2h", "30d"."""

import re
from datetime import timedelta
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from diffedit.errors import InvalidRequest

_SHORT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

T = TypeVar("T")


def duration(name: str, value: timedelta | str) -> timedelta:
    """Return a duration from a text such as "90s", "30m", "1.5h", "30d" or, as in ISO 8601, "PT2H".

    Args:
        name: what the duration is for, to begin an error with.

    Raises:
        InvalidRequest: the text is not a duration, or the duration is negative.
    """
    try:
        found = TypeAdapter(timedelta).validate_python(from_short(value))
    except (ValidationError, OverflowError):
        raise InvalidRequest(
            f'{name}: {value!r} is not a duration; write it like "30m", "2h", "30d" or "PT2H"'
        ) from None
    if found < timedelta():
        raise InvalidRequest(f"{name}: a duration cannot be negative")
    return found


def from_short(value: T) -> T | timedelta:
    """Return a text such as "2h" as a duration, and anything else as it is. Raises OverflowError."""
    found = _SHORT.fullmatch(value) if isinstance(value, str) else None
    return timedelta(**{_UNITS[found[2]]: float(found[1])}) if found else value
