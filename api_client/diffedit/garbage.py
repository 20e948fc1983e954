"""Deletion of old pictures and artifacts that no unfinished job needs, and of uploads that are over a day old.

Copies of submissions are deleted by the leader when their jobs have ended. What it has missed is deleted here.

An artifact never becomes outdated, because its key is the hash of everything it is made from. So age alone decides what
is deleted. A derived artifact that is needed after all is made again.
"""

from collections.abc import Iterable
from datetime import timedelta

from pydantic import NonNegativeInt

from diffedit.contract.job import JobStatus
from diffedit.contract.object_keys import ARTIFACTS, INPUTS, SUBMISSIONS, UPLOADS, companion_keys, job_of_submission
from diffedit.contract.validation import Frozen
from diffedit.deletion import ANY_AGE
from diffedit.durations import duration
from diffedit.errors import InvalidRequest, JobNotFound
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore

UPLOADS_KEPT = timedelta(days=1)
"""How long a browser's upload can be edited. Its picture is stored again with the first edit."""
LOST_KEPT = timedelta(days=7)
"""How long the copy of a submission is kept that has no record: the job may be lost, and can be restored."""
YOUNGEST = timedelta(hours=1)
"""A younger upload may belong to a job that is being submitted."""


class Collected(Frozen):
    """Number and bytes of the objects that were deleted (or would be), and how many old objects are still in use.

    Copies of submissions are not among them.
    """

    objects: NonNegativeInt
    bytes: NonNegativeInt
    in_use: NonNegativeInt


def age(text: str | timedelta) -> timedelta:
    """Return the age from which on objects are deleted, from a text such as "30d" or "36h".

    Raises:
        InvalidRequest: the text is not a duration, or the duration is under an hour.
    """
    value = duration("older_than", text)
    if value < YOUNGEST:
        raise InvalidRequest("older_than: under an hour; a job that is being submitted might lose its picture")
    return value


def collect(
    job_store: JobStore, object_store: ObjectStore, older_than: timedelta, *, dry_run: bool = False
) -> Collected:
    """Delete the objects that were stored longer ago than `older_than` and that no unfinished job refers to.

    The results of jobs that have ended are deleted as well, even if their records still exist, unless they are kept for
    longer (`JobOptions.keep`). If the time for which they are kept is over, they are deleted at any age, unless the
    record of another job mentions them. The uploads of browsers are deleted after a day.
    """
    now, kept = job_store.now(), job_store.kept_objects()
    over = {key for key, until in kept.items() if until <= now}
    # Objects are listed before jobs, so that a job that starts to use an object in between is seen.
    old = object_store.older_than(older_than, (INPUTS, ARTIFACTS))
    old += object_store.older_than(min(older_than, UPLOADS_KEPT), (UPLOADS,))
    copies = _unneeded_copies(job_store, object_store, older_than)
    stored = object_store.older_than(ANY_AGE, (INPUTS, ARTIFACTS)) if over else []
    used = job_store.keys_in_use()
    used |= _with_companions(kept.keys() - over)
    over -= job_store.mentioned(over)
    with_companions = _with_companions(over)
    candidates = {each.key: each for each in (*old, *(each for each in stored if each.key in with_companions))}
    unused = [each for each in candidates.values() if each.key not in used]
    if not dry_run:
        object_store.delete_all(copies)
        for each in unused:
            object_store.delete(each.key)
        job_store.forget_kept(over - used)
    return Collected(objects=len(unused), bytes=sum(each.size for each in unused), in_use=len(candidates) - len(unused))


def _unneeded_copies(job_store: JobStore, object_store: ObjectStore, older_than: timedelta) -> list[str]:
    """Return the keys of old copies of submissions whose jobs have ended, or have had no record for a long time."""
    old = {each.key for each in object_store.older_than(older_than, (SUBMISSIONS,))}
    kept = old - {each.key for each in object_store.older_than(max(older_than, LOST_KEPT), (SUBMISSIONS,))}
    jobs = {job_id: key for key in old if (job_id := job_of_submission(key))}
    unneeded = []
    for job_id, (answer, _) in job_store.statuses(dict.fromkeys(jobs)).items():
        is_long_lost = isinstance(answer, JobNotFound) and jobs[job_id] not in kept
        if is_long_lost or (isinstance(answer, JobStatus) and answer.is_terminal):
            unneeded.append(jobs[job_id])
    return unneeded


def _with_companions(object_keys: Iterable[str]) -> set[str]:
    return {key for each in object_keys for key in (each, *companion_keys(each))}
