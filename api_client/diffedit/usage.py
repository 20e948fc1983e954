"""What owners have used lately."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from diffedit.contract.usage import KEPT_DAYS, Usage, UsageKey, add_up
from diffedit.durations import from_short
from diffedit.errors import InvalidRequest
from diffedit.jobs.store import JobStore

KEYS: tuple[UsageKey, ...] = get_args(UsageKey)


def usage_of(
    job_store: JobStore, since: timedelta | date | str, by: UsageKey | Sequence[UsageKey], owner: str | None
) -> list[Usage]:
    """Return the usage of an owner, or of all, since then. Raises InvalidRequest."""
    today = datetime.fromtimestamp(job_store.now(), UTC).date()
    first = max(_first_day(since, today), today - timedelta(days=KEPT_DAYS))
    days = [first + timedelta(days=number) for number in range((today - first).days + 1)]
    entries = job_store.usage(days)
    return add_up((each for each in entries if owner is None or each.owner == owner), checked_keys(by))


def checked_keys(by: UsageKey | Sequence[UsageKey]) -> tuple[UsageKey, ...]:
    """Return what usage is added up by. Raises InvalidRequest."""
    given = tuple(by.split(",")) if isinstance(by, str) else tuple(by)
    if not given or len(set(given)) < len(given) or not set(given) <= set(KEYS):
        raise InvalidRequest(f"by: give one or more of {', '.join(KEYS)}, each once")
    return tuple(key for key in KEYS if key in given)


def _first_day(since: timedelta | date | str, today: date) -> date:
    try:
        value = TypeAdapter(timedelta | date).validate_python(from_short(since))
        return value if isinstance(value, date) else today - value
    except (ValidationError, OverflowError):
        raise InvalidRequest(
            f'since: {since!r} is neither a duration such as "30d" nor a day such as "2026-01-31"'
        ) from None
