"""What a job store does for an administrator: where jobs wait, and jobs that start over in place."""

from enum import StrEnum
from typing import NamedTuple, Protocol

from diffedit.contract.job import Job, JobOptions


class Waiting(NamedTuple):
    """Where a job that has not ended is. Times are those of the server, in seconds since 1970.

    Attributes:
        queue: the queue in which it waits, or from which its stage was started.
        since: since when it waits; None if a worker runs it.
        worker: the id of the worker that runs it.
        parked: whether it waits until other jobs of its owner have ended.
        held_back: whether its message is held back, because other owners have their turn first or the queue is paused.
    """

    queue: str
    since: float | None
    worker: str | None
    parked: bool
    held_back: bool


class QueueCounts(NamedTuple):
    """What a queue has.

    Attributes:
        waiting: the jobs that wait.
        held_back: those of them whose message is held back, because other owners have their turn first or the queue is
            paused.
        parked: those of them that wait until other jobs of their owners have ended.
        running: the jobs of which a worker runs a stage.
        messages: the messages in Celery's queue. One may be missing or there twice; the records decide.
        oldest: since when the job waits that has waited for the longest, in seconds since 1970; None if none waits.
    """

    waiting: int
    held_back: int
    parked: int
    running: int
    messages: int
    oldest: float | None


class StartOver(StrEnum):
    """Whether a job starts over, or why it does not."""

    DONE = ""
    MISSING = "missing"
    """There is no record."""
    OPEN = "open"
    """It has not ended."""
    ENDED = "ended"
    """It has ended, or has succeeded."""
    RUNNING = "running"
    """A live worker runs a stage of it."""
    OVERDUE = "overdue"
    """Its deadline is over."""


class JobAdministration(Protocol):
    """The part of a `JobStore` for administrators."""

    def queue_counts(self) -> dict[str, QueueCounts]:
        """Return what each queue has that a job ever waited in, or that a worker ever read."""

    def waiting_of(self, job_id: str) -> Waiting | None:
        """Return where the job is; None if it has ended. Raises JobNotFound."""

    def revive_job(self, job: Job, options: JobOptions) -> StartOver:
        """Let a job that failed, was cancelled or has expired wait for its first stage again, as if it were new.

        Its id, its time of submission and its idempotency key stay. Artifacts that exist are found again by their keys.

        Args:
            job: the job, without artifacts.
            options: its options, without the time limits that shall not hold any more.
        """

    def move_job(self, job: Job) -> StartOver:
        """Let a job that waits start over with another request, such as one with another profile.

        `job` has the new request and no artifacts.
        """
