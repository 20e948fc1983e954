"""What a job store knows of many jobs: lists of them, owners and their limits, and which objects nobody needs."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import NamedTuple, Protocol

from diffedit.contract.job import JobStatus, State
from diffedit.contract.owners import OwnerLimits
from diffedit.contract.usage import Usage
from diffedit.jobs.filters import JobFilter
from diffedit.jobs.pages import TagFilter


class JobPage(NamedTuple):
    """Some jobs, newest first.

    Attributes:
        statuses: the jobs.
        unreadable: the ids of jobs in between whose records cannot be read.
        cursor: where the next page begins; None if there is nothing more.
    """

    statuses: list[JobStatus]
    unreadable: list[str]
    cursor: str | None = None


class RemovedJob(NamedTuple):
    """What `remove_job` leaves in the object store.

    Attributes:
        objects: the keys of the job's pictures and artifacts.
        unused: those of them that no other record names.
    """

    objects: frozenset[str]
    unused: frozenset[str]


class JobIndex(Protocol):
    """The part of a `JobStore` that is not about one job."""

    def list_jobs(
        self,
        state: State | None = None,
        limit: int = 50,
        *,
        owner: str | None = None,
        tag: TagFilter | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        """Return the newest `limit` jobs (of this state, owner and tag), newest first, from this cursor on.

        Raises InvalidRequest if no page had this cursor.
        """

    def find_jobs(self, wanted: JobFilter, limit: int = 50, cursor: str | None = None) -> JobPage:
        """Return the newest `limit` jobs that this filter lets through, as `list_jobs` does."""

    def remove_job(self, job_id: str) -> RemovedJob:
        """Delete the record of a job and all that names the job. A job that has not ended is cancelled.

        Its objects are noted as no longer kept, so that garbage collection deletes what the caller does not. Raises
        JobNotFound.
        """

    def kept_objects(self) -> dict[str, float]:
        """Return objects and until when each is kept, in seconds since 1970.

        These are the objects of jobs with `keep` that have ended, and those of removed jobs.
        """

    def forget_kept(self, object_keys: Collection[str]) -> None:
        """Note that these objects are deleted."""

    def mentioned(self, object_keys: Collection[str]) -> set[str]:
        """Return those of these keys of objects that a record mentions. All records are read."""

    def owner_limits(self, owner: str | None) -> OwnerLimits | None:
        """Return the limits of an owner that has its own, else None; for None those of all others."""

    def all_owner_limits(self) -> dict[str | None, OwnerLimits]:
        """Return the limits of each owner that has its own; under None those of all others, if there are any."""

    def set_owner_limits(self, owner: str | None, limits: OwnerLimits | None) -> None:
        """Set the limits of an owner, or delete them; for None those of owners that have none of their own."""

    def usage(self, days: Sequence[date]) -> list[Usage]:
        """Return what each owner has used on these days, by day, owner and profile."""

    def secret(self) -> str:
        """Return 32 random hex digits, which are the same for all who use this store."""

    def stage_seconds(self, profile: str) -> dict[str, float]:
        """Return the seconds that stages of this profile take, on average, of those that were ever measured."""
