"""Which jobs an administrator means."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypedDict, TypeVar

from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.durations import duration
from diffedit.errors import InvalidRequest
from diffedit.jobs.filters import JobFilter
from diffedit.jobs.pages import TagFilter, checked_tag
from diffedit.jobs.store import JobStore

E = TypeVar("E", bound=StrEnum)

ENUMERATIONS: dict[str, type[StrEnum]] = {"state": State, "stage": Stage}
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
    fields |= {name: member(name, kind, given[name]) for name, kind in ENUMERATIONS.items() if name in given}
    fields["tag"] = checked_tag(given.get("tag"))
    if "since" in given or "older_than" in given:
        moment = now()
        for name, field in (("since", "since"), ("older_than", "until")):
            if name in given:
                fields[field] = moment - duration(name, given[name]).total_seconds()
    return JobFilter(**fields)


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


def member(name: str, kind: type[E], value: Any) -> E:
    """Return the member of an enumeration with this value. `name` is that of the argument. Raises InvalidRequest."""
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(f"{name}: {value!r} is none of {', '.join(kind)}") from None
