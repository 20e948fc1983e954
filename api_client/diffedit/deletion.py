"""Deletion of jobs: of their records, and of the pictures, artifacts and results that no other job uses."""

from collections.abc import Collection
from datetime import timedelta

from pydantic import NonNegativeInt

from diffedit.contract.object_keys import companion_keys, submission_key, upload_folder
from diffedit.contract.validation import Frozen
from diffedit.errors import BadRecord, JobNotFound
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore
from diffedit.submission_copies import read_copies, stored_copies, without_record

_PAGE = 100
ANY_AGE = timedelta(days=-1)
"""Also of what is stored in the next moment, by the clock of another machine."""


class Deleted(Frozen):
    """How many jobs and objects were deleted."""

    jobs: NonNegativeInt
    objects: NonNegativeInt


def delete_job(job_store: JobStore, object_store: ObjectStore, job_id: str) -> Deleted:
    """Delete a job, and the objects that surely no other job uses. The others are left to garbage collection.

    Raises JobNotFound.
    """
    removed = job_store.remove_job(job_id)
    object_store.delete(submission_key(job_id))
    return Deleted(jobs=1, objects=delete_objects(job_store, object_store, removed.unused))


def delete_jobs_of(job_store: JobStore, object_store: ObjectStore, owner: str) -> Deleted:
    """Delete all jobs of an owner, and the objects that no record mentions afterwards, for which all are read.

    Uploads that the owner has sent straight to the bucket are deleted as well.
    """
    objects: set[str] = set()
    jobs = 0
    while ids := _some_jobs_of(job_store, owner):
        for job_id in ids:
            try:
                objects |= job_store.remove_job(job_id).objects
                jobs += 1
            except JobNotFound:
                pass
    uploads = object_store.older_than(ANY_AGE, (upload_folder(owner),))
    for upload in uploads:
        object_store.delete(upload.key)
    _delete_copies_of(job_store, object_store, owner)
    unused = delete_objects(job_store, object_store, objects - job_store.mentioned(objects))
    return Deleted(jobs=jobs, objects=unused + len(uploads))


def _delete_copies_of(job_store: JobStore, object_store: ObjectStore, owner: str) -> None:
    """Delete what the bucket has of the owner's submissions. Nothing of the owner can be restored then."""
    for lost in without_record(job_store, [copy.job_id for copy in stored_copies(object_store)]):
        copies = read_copies(object_store, lost)
        own = [copy.job_id for copy in copies if not isinstance(copy, BadRecord) and copy.owner == owner]
        object_store.delete_all([submission_key(job_id) for job_id in own])


def delete_objects(job_store: JobStore, object_store: ObjectStore, object_keys: Collection[str]) -> int:
    """Delete these objects with what is stored beside them. Return how many there were, if all existed."""
    stored = [key for each in sorted(object_keys) for key in (each, *companion_keys(each))]
    for key in stored:
        object_store.delete(key)
    if object_keys:
        job_store.forget_kept(object_keys)
    return len(stored)


def _some_jobs_of(job_store: JobStore, owner: str) -> list[str]:
    page = job_store.list_jobs(limit=_PAGE, owner=owner)
    return [status.id for status in page.statuses] + page.unreadable
