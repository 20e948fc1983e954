"""Which jobs an administrator means."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypedDict

from pydantic import TypeAdapter

from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.errors import InvalidRequest
from diffedit.jobs.filters import JobFilter
from diffedit.jobs.pages import TagFilter, checked_tag
from diffedit.jobs.store import JobStore

SLICE = 100
"""Jobs that are read at once when many are changed."""


class JobQuery(TypedDict, total=False):
    """The keyword arguments that say which jobs. Without an argument, it does not matter."""

    state: State | str
    """Their state, such as "failed"."""
    code: str
    """The code of the error with which they failed, such as "worker_lost"."""
    stage: Stage | str
    """The stage in which they failed, or that they wait for or are in, such as "mask"."""
    profile: str
    """Their profile."""
    owner: str
    """Whose they are."""
    tag: TagFilter
    """The name of a tag, or its name and value."""
    since: timedelta | str
    """They ended (or were submitted, if they have not ended) within this time, such as "2h", "30m" or "1d"."""
    older_than: timedelta | str
    """They ended (or were submitted, if they have not ended) longer ago than this."""


def filter_of(query: JobQuery, now: Callable[[], float]) -> JobFilter:
    """Return the filter of a query. `now` returns the server's time. Raises InvalidRequest."""
    given: dict[str, Any] = {name: value for name, value in query.items() if value is not None}
    if unknown := given.keys() - JobQuery.__annotations__.keys():
        raise InvalidRequest(f"{', '.join(sorted(unknown))}: jobs cannot be selected by this")
    fields: dict[str, Any] = {name: given[name] for name in ("code", "profile", "owner") if name in given}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"{name}: {value!r} is no text")
    fields["state"] = _member("state", State, given.get("state"))
    fields["stage"] = _member("stage", Stage, given.get("stage"))
    fields["tag"] = checked_tag(given.get("tag"))
    if "since" in given or "older_than" in given:
        moment = now()
        for name, field in (("since", "since"), ("older_than", "until")):
            if name in given:
                fields[field] = moment - age(name, given[name]).total_seconds()
    return JobFilter(**fields)


def age(name: str, value: timedelta | str) -> timedelta:
    """Return a duration from a text such as "90s", "30m", "2h", "1d" or, as in ISO 8601, "PT2H".

    Raises InvalidRequest.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        if isinstance(value, str) and value[-1:] in units and value[:-1].isdecimal():
            return timedelta(**{units[value[-1]]: int(value[:-1])})
        found = TypeAdapter(timedelta).validate_python(value)
    except (ValueError, OverflowError):  # a ValidationError, or more digits than Python converts
        raise InvalidRequest(f'{name}: {value!r} is no duration; write it like "30m", "2h", "1d" or "PT2H"') from None
    if found < timedelta():
        raise InvalidRequest(f"{name}: a duration cannot be negative")
    return found


def ids_of(job_store: JobStore, wanted: JobFilter, limit: int | None) -> Iterator[str]:
    """Yield the ids of the jobs that are wanted, the newest first, in slices. What is done with them moves no slice."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        page = job_store.find_jobs(wanted, SLICE if left is None else min(SLICE, left), cursor)
        yield from (status.id for status in page.statuses)
        left = None if left is None else left - len(page.statuses)
        cursor = page.cursor
        if cursor is None:
            return


def _member(name: str, kind: type[State] | type[Stage], value: Any) -> Any:
    if value is None:
        return None
    try:
        return kind(value)  # type: ignore[call-arg] # a look-up by value
    except ValueError:
        raise InvalidRequest(f"{name}: {value!r} is none of {', '.join(kind)}") from None
