"""What an administrator does to one job: let it start over in place, move it to another profile, cancel it."""

from collections.abc import Callable, Iterable

from diffedit.admin.models import Changed
from diffedit.contract import versions
from diffedit.contract.job import Job, JobOptions, JobStatus, State
from diffedit.contract.object_keys import submission_key
from diffedit.contract.request import EditRequest
from diffedit.errors import CannotChange, DiffEditError, JobNotFound, NewerRecord, ServiceError
from diffedit.jobs.administration import StartOver
from diffedit.jobs.store import JobStore
from diffedit.jobs.workers import WorkerInfo
from diffedit.objects.store import ObjectStore
from diffedit.submission_copies import encoded

FIRST_WITH_MOVES = 2
"""The contract from which on a worker drops the message of a job that was moved."""

Exists = Callable[[str], bool]
"""Whether an object is in the bucket."""


class Copies:
    """The copies of submissions in the bucket, of jobs that wait again. They name no idempotency keys."""

    def __init__(self, object_store: ObjectStore, retention: int) -> None:
        self._object_store = object_store
        self._retention = retention

    def store(self, status: JobStatus, request: EditRequest, options: JobOptions) -> None:
        job = Job(id=status.id, request=request, options=options)
        copy = encoded(job, self._retention, status.created_at.timestamp())
        self._object_store.put(submission_key(status.id), copy)

    def delete(self, job_id: str) -> None:
        self._object_store.delete(submission_key(job_id))


def retry_in_place(
    job_store: JobStore, exists: Exists, copies: Copies, job_id: str, *, drop_time_limits: bool, dry_run: bool
) -> None:
    """Let a job that has ended start over under its id. Raises CannotChange, JobNotFound, BadRecord."""
    status = job_store.status(job_id)
    _require_known(status)
    if not status.is_terminal:
        raise CannotChange(job_id, f"it is {status.state.value}; only a job that has ended can be retried")
    if status.state is State.SUCCEEDED:
        raise CannotChange(job_id, "it has succeeded, and its result holds; `diffedit retry` submits it as a new job")
    for name, key in (("picture", status.request.image), ("mask", status.request.mask)):
        if key and not exists(key):
            raise CannotChange(job_id, f"its {name} is not in the bucket any more; submit the edit again")
    unlimited = {"start_timeout": None, "deadline": None}
    # The start of a job that has started once was in time.
    changes = unlimited if drop_time_limits else {"start_timeout": None} if status.started_at else {}
    options = status.options.model_copy(update=changes)
    limits = [limit for limit in (options.start_timeout, options.deadline) if limit is not None]
    if dry_run and not (limits and status.created_at.timestamp() + min(limits) <= job_store.now()):
        return
    if dry_run:
        answer = StartOver.OVERDUE
    else:
        copies.store(status, status.request, options)
        answer = job_store.revive_job(_fresh(status, status.request), options)
        if answer not in (StartOver.DONE, StartOver.OPEN):
            copies.delete(job_id)
    if answer is StartOver.OVERDUE:
        raise CannotChange(job_id, "its time limit is over; let it go on without its limits (--no-deadline)")
    _require_done(job_id, answer)


def move(
    job_store: JobStore, workers: Iterable[WorkerInfo], copies: Copies, job_id: str, profile: str, *, dry_run: bool
) -> None:
    """Let a job that waits start over in another profile. Raises CannotChange, JobNotFound, BadRecord."""
    status = job_store.status(job_id)
    _require_known(status)
    if status.is_terminal:
        raise CannotChange(job_id, f"it is {status.state.value}; only a job that waits can be moved")
    if status.request.params.profile == profile:
        raise CannotChange(job_id, f"it is in profile {profile} already")
    place = job_store.waiting_of(job_id)
    if place and place.worker:
        raise CannotChange(job_id, "a worker runs a stage of it; try again between two stages, or cancel it")
    old = [each.name for each in workers if place and place.queue in each.queues and each.contract < FIRST_WITH_MOVES]
    if old:
        raise CannotChange(job_id, f"{', '.join(old)} would run its old message; upgrade these workers of 0.2.0 first")
    fields = {
        **status.request.model_dump(exclude={"params"}),
        "params": {**dict(status.request.params), "profile": profile},
    }
    try:
        request = EditRequest.model_validate(fields)
    except ValueError as error:
        raise CannotChange(job_id, f"its request is not valid in profile {profile}: {error}") from None
    if not dry_run:
        _require_done(job_id, job_store.move_job(_fresh(status, request)))
        copies.store(status, request, status.options)


def cancel(job_store: JobStore, job_id: str, *, dry_run: bool) -> None:
    """Cancel a job. Raises CannotChange, JobNotFound."""
    if dry_run:
        state = job_store.status(job_id).state
        outcome = State.CANCELLED if not job_store.status(job_id).is_terminal else state
    else:
        outcome = job_store.end_job(job_id, State.CANCELLED)
    if outcome is not State.CANCELLED:
        raise CannotChange(job_id, f"it has ended already: {outcome.value}")


def each(ids: Iterable[str], change: Callable[[str], object]) -> list[Changed]:
    """Change each of these jobs. What one of them refuses does not keep the others; a service that fails does."""
    changed = []
    for job_id in ids:
        try:
            change(job_id)
            changed.append(Changed(id=job_id, done=True))
        except ServiceError:
            raise
        except DiffEditError as error:
            changed.append(Changed(id=job_id, done=False, error=error.code, message=str(error)))
    return changed


def _fresh(status: JobStatus, request: EditRequest) -> Job:
    return Job(id=status.id, request=request, options=status.options)


def _require_known(status: JobStatus) -> None:
    if status.contract > versions.CONTRACT:
        raise NewerRecord(status.id)  # what this version does not know of the request would be lost


def _require_done(job_id: str, answer: StartOver) -> None:
    match answer:
        case StartOver.DONE:
            return
        case StartOver.MISSING:
            raise JobNotFound(job_id)
        case StartOver.RUNNING:
            raise CannotChange(job_id, "a worker has started a stage of it meanwhile")
        case _:
            raise CannotChange(job_id, "its state has changed meanwhile; look at it again")
