"""A page of jobs, and the cursor from which the next one begins."""

import base64
from collections.abc import Iterable
from typing import Any, NamedTuple

from diffedit.contract.job import JobStatus
from diffedit.contract.validation import JOB_ID
from diffedit.errors import InvalidRequest

TagFilter = str | tuple[str, str]
"""The name of a tag, or its name and its value."""


class Page(list[JobStatus]):
    """The statuses of some jobs, newest first: a list.

    Attributes:
        cursor: where the next page begins, for `Client.jobs(cursor=...)`; None if there are no further jobs. Jobs that
            are submitted meanwhile do not change what it gives.
        unreadable: the ids of jobs in between whose records cannot be read.
    """

    def __init__(
        self, statuses: Iterable[JobStatus] = (), *, cursor: str | None = None, unreadable: Iterable[str] = ()
    ) -> None:
        super().__init__(statuses)
        self.cursor = cursor
        self.unreadable = list(unreadable)


class Place(NamedTuple):
    """A place among all jobs, which are ordered by the time of submission, then by id."""

    created: float
    job_id: str


def encode_cursor(place: Place) -> str:
    """Return the cursor of the page that begins after this place."""
    return base64.urlsafe_b64encode(f"{place.created!r} {place.job_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: Any) -> Place:
    """Return the place after which the page begins. Raises InvalidRequest if no page had this cursor."""
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        created, job_id = text.split(" ")
        place = Place(float(created), job_id)
        if JOB_ID.fullmatch(job_id) and encode_cursor(place) == cursor:
            return place
    except (AttributeError, ValueError):
        pass
    raise InvalidRequest("cursor: this is none; give the `cursor` of the page before")


def checked_tag(tag: Any) -> TagFilter | None:
    """Return a tag to search for, as it was given. Raises InvalidRequest."""
    if tag is None or isinstance(tag, str):
        return tag
    if isinstance(tag, tuple) and len(tag) == 2 and all(isinstance(each, str) for each in tag):
        return tag
    raise InvalidRequest('tag: give the name of a tag, such as "album", or its name and value: ("album", "9")')


def has_tag(status: JobStatus, tag: TagFilter | None) -> bool:
    """Return whether the job has the tag, or whether none is asked for."""
    if tag is None or isinstance(tag, str):
        return tag is None or tag in status.tags
    return status.tags.get(tag[0]) == tag[1]
