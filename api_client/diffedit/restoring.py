"""The restoration of jobs that Redis has lost, from the copies of their submissions in the bucket.

It can be interrupted and repeated: a job that is recorded stays as it is. Jobs go into their queues in the order in
which they were submitted. Artifacts are found again by their keys, so stages that were done are not computed again.
"""

from datetime import UTC, datetime, timedelta

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from diffedit.contract.validation import Frozen
from diffedit.durations import from_short
from diffedit.errors import BadRecord, InvalidRequest
from diffedit.jobs.records import status_of
from diffedit.jobs.store import JobStore
from diffedit.objects.store import ObjectStore
from diffedit.submission_copies import SubmissionCopy, read_copies, stored_copies, without_record

Moment = timedelta | datetime | str
"""A time: so long ago, or a date with its time. As text "90s", "30m", "2h", "7d", or as in ISO 8601."""


class Restored(Frozen):
    """What a restoration did, or would do: numbers of jobs, by what became of them."""

    restored: NonNegativeInt
    """Jobs that were recorded again and will run."""
    overdue: NonNegativeInt
    """Those of the restored jobs that have exceeded a time limit since. They end as expired."""
    present: NonNegativeInt
    """Copies of jobs that have a record, or have ended."""
    repeated: NonNegativeInt
    """Jobs that were not restored, because they were submitted again with the same idempotency key."""
    unreadable: tuple[str, ...] = ()
    """The ids of jobs whose copies cannot be read, or need a newer version of this program."""


def moment(value: Moment, name: str) -> float:
    """Return a time in seconds since 1970; a duration ends now, by this host's clock. `name` is for the message.

    Raises:
        InvalidRequest: it is neither a duration nor a date.
    """
    try:
        given = TypeAdapter[timedelta | datetime](timedelta | datetime).validate_python(from_short(value))
        if isinstance(given, timedelta):
            given = datetime.now(UTC) - given
        return given.astimezone(UTC).timestamp()
    except (ValidationError, OverflowError, ValueError):
        raise InvalidRequest(
            f'{name}: {value!r} is no time; write how long ago, like "30m", "2h" or "7d", or a date like '
            '"2026-01-31T14:30:00Z"'
        ) from None


def restore(
    job_store: JobStore,
    object_store: ObjectStore,
    since: float,
    until: float | None = None,
    *,
    dry_run: bool = False,
) -> Restored:
    """Record those jobs again that were submitted in this time, by the bucket's clock, and have no record."""
    stored = [copy for copy in stored_copies(object_store) if since <= copy.stored_at]
    ids = [copy.job_id for copy in stored if until is None or copy.stored_at <= until]
    found = [each for lost in without_record(job_store, ids) for each in read_copies(object_store, lost)]
    unreadable = [copy.job_id for copy in found if isinstance(copy, BadRecord)]
    numbers = {"restored": 0, "overdue": 0, "repeated": 0}
    readable = (copy for copy in found if not isinstance(copy, BadRecord))
    for copy in sorted(readable, key=lambda copy: copy.created):
        try:
            _restore(job_store, copy, numbers, dry_run)
        except BadRecord:
            unreadable.append(copy.job_id)
    others = numbers["restored"] + numbers["repeated"] + len(unreadable)
    return Restored(**numbers, present=max(0, len(ids) - others), unreadable=tuple(unreadable))


def _restore(job_store: JobStore, copy: SubmissionCopy, numbers: dict[str, int], dry_run: bool) -> None:
    status = status_of(copy.job_id, {**copy.record, "created": f"{copy.created:.6f}"})
    if dry_run:
        done, repeated = True, None
    else:
        done, repeated = job_store.restore_job(copy.job_id, copy.record, copy.created)
    numbers["restored"] += done
    numbers["overdue"] += done and status.is_overdue
    numbers["repeated"] += repeated is not None
