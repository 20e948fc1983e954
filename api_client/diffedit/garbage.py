"""Old pictures and artifacts go, unless a job that has not ended needs them.

Nothing that is made is ever out of date: a key is the hash of what it was made from. So only age can say that it will
not be asked for again, and a derived artifact that is asked for all the same is made again.
"""

from datetime import timedelta

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from diffedit.contract.validation import Frozen
from diffedit.errors import InvalidRequest
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore

YOUNGEST = timedelta(hours=1)
"""What a client has just uploaded belongs to no job yet."""


class Collected(Frozen):
    """What was deleted, or would be: so many objects of so many bytes; and what was old enough, but is in use."""

    objects: NonNegativeInt
    bytes: NonNegativeInt
    in_use: NonNegativeInt


def age(text: str | timedelta) -> timedelta:
    """A time like "30d", "36:00:00" or, as in ISO 8601, "PT36H".

    Raises:
        InvalidRequest: it is none, or too short.
    """
    try:
        value = TypeAdapter(timedelta).validate_python(text)
    except ValidationError:
        raise InvalidRequest(f'older_than: {text!r} is no time; write it like "30d", "36:00:00" or "PT36H"') from None
    if value < YOUNGEST:
        raise InvalidRequest("older_than: less than an hour; a job that is being submitted might lose its picture")
    return value


def collect(
    job_store: JobStore, object_store: ObjectStore, older_than: timedelta, *, dry_run: bool = False
) -> Collected:
    """Delete what was stored longer ago than `older_than` and no unfinished job refers to.

    Results of jobs that have ended go as well, although their records may still be there.
    """
    # Listed before the jobs are: whoever begins to use an object in between is seen.
    old = list(object_store.older_than(older_than))
    used: set[str | None] = set()
    for status in job_store.unfinished_jobs():
        used.update((status.request.image, status.request.mask, *status.artifact_keys.values()))
    unused = [each for each in old if each.key not in used]
    if not dry_run:
        for each in unused:
            object_store.delete(each.key)
    return Collected(objects=len(unused), bytes=sum(each.size for each in unused), in_use=len(old) - len(unused))
