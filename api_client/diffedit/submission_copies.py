"""The copy of each submission in the bucket, from which `Client.restore` records jobs that Redis has lost.

A copy is stored before the job is recorded, so that no job is recorded without one. When the job has ended, the leader
among the workers deletes it. So there are copies of jobs that have not ended, and of those that ended in the last
seconds.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from diffedit.at_once import all_at_once, within
from diffedit.contract.job import Job
from diffedit.contract.object_keys import SUBMISSIONS, job_of_submission, submission_key
from diffedit.errors import ArtifactError, BadRecord, DiffEditError, JobLost, JobNotFound
from diffedit.jobs.records import LATEST, new_fields
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore

_OF_SCRIPTS = {
    *("created", "started", "finished", "deadline_at", "next", "queue", "parked", "expected"),
    *("stage", "step", "steps", "worker", "retries", "outcome", "error"),
}
"""Fields of a record that no client writes. A copy that has one was not made by a client."""
PATIENCE = 5.0
"""Seconds in which the bucket must say whether it has the copy of a job that is not found."""
_PAGE = 200
"""Copies that are looked at together."""


class SubmissionCopy(NamedTuple):
    """What a client asked for.

    Attributes:
        job_id: the id of the job.
        created: when it was submitted, by the clock of Redis, in seconds since 1970.
        record: what the client wrote into its record, and its idempotency key.
    """

    job_id: str
    created: float
    record: Mapping[str, str]

    @property
    def owner(self) -> str | None:
        return self.record.get("owner")


class StoredCopy(NamedTuple):
    """A copy in the bucket, and when it was stored by the bucket's clock, in seconds since 1970."""

    job_id: str
    stored_at: float


def encoded(
    job: Job, retention: int, created: float, idempotency_key: str | None = None, request_digest: str | None = None
) -> bytes:
    """Return the copy of a submission as it is stored. `retention` is that of the settings, in seconds."""
    key = {"idempotency": idempotency_key, "request_digest": request_digest} if idempotency_key else {}
    return json.dumps({"job": job.id, "created": created, "record": {**new_fields(job, retention), **key}}).encode()


def decoded(job_id: str, data: bytes) -> SubmissionCopy:
    """Return the copy that is stored as `data`. Raises BadRecord."""
    try:
        copy: Any = json.loads(data)
        created, record = float(copy["created"]), dict(copy["record"])
    except (ValueError, TypeError, LookupError, RecursionError):
        raise BadRecord(job_id, "the copy of its submission is damaged") from None
    is_text = all(isinstance(text, str) for text in record.values())
    known = is_text and not any(name in _OF_SCRIPTS or ":" in name for name in record)
    if not (known and copy.get("job") == job_id and 0 <= created < LATEST):
        raise BadRecord(job_id, "the copy of its submission is damaged")
    return SubmissionCopy(job_id, created, record)


def read_copy(object_store: ObjectStore, job_id: str) -> SubmissionCopy | None:
    """Return the copy of a submission; None if there is none. Raises BadRecord if it cannot be read."""
    try:
        data = object_store.get(submission_key(job_id))
    except ArtifactError as error:
        if error.code == "artifact_missing":
            return None
        raise BadRecord(job_id, f"the copy of its submission cannot be read: {error}") from error
    return decoded(job_id, data)


def stored_copies(object_store: ObjectStore) -> list[StoredCopy]:
    """Return all copies in the bucket, those that were stored first in front."""
    found = object_store.stored_in(SUBMISSIONS).items()
    copies = [StoredCopy(job_id, stored_at) for key, stored_at in found if (job_id := job_of_submission(key))]
    return sorted(copies, key=lambda copy: (copy.stored_at, copy.job_id))


def without_record(job_store: JobStore, job_ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield those of these jobs that have no record, in parts."""
    for start in range(0, len(job_ids), _PAGE):
        readings = job_store.statuses(dict.fromkeys(job_ids[start : start + _PAGE]))
        yield [job_id for job_id, reading in readings.items() if isinstance(reading.answer, JobNotFound)]


def read_copies(object_store: ObjectStore, job_ids: Sequence[str]) -> list[SubmissionCopy | BadRecord]:
    """Return these copies, without those that do not exist any more, and an error for each that cannot be read."""

    def read(job_id: str) -> SubmissionCopy | BadRecord | None:
        try:
            return read_copy(object_store, job_id)
        except BadRecord as error:
            return error

    return [copy for copy in all_at_once([partial(read, job_id) for job_id in job_ids]) if copy]


def not_found(job_id: str, job_store: JobStore, object_store: ObjectStore, owner: str | None) -> JobNotFound:
    """Return the error that says what became of a job without a record: it is lost, or nothing is known of it.

    An owner learns nothing of the jobs of others.
    """
    since, copy, is_settled = None, None, False
    with suppress(DiffEditError):  # what is not known is not said
        since, is_settled = job_store.data_since(), job_store.is_settled(job_id)
    with suppress(DiffEditError, TimeoutError):
        copy = None if is_settled else within(PATIENCE, partial(read_copy, object_store, job_id))
    moment = None if since is None else datetime.fromtimestamp(since, UTC)
    if copy is None or owner not in (None, copy.owner):
        return JobNotFound(job_id, moment)
    # After a return to an older state, the data begin before the job.
    return JobLost(job_id, moment if since is None or copy.created < since else None)


@contextmanager
def explaining_absence(
    job_id: str, job_store: JobStore, object_store: ObjectStore, owner: str | None = None
) -> Iterator[None]:
    """Let the error for a missing record say whether the server has lost it."""
    try:
        yield
    except JobNotFound as error:
        raise not_found(job_id, job_store, object_store, owner) from error
