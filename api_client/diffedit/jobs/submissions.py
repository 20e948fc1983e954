"""What a job store knows of the copies of submissions in the bucket, and of a loss of all its data.

A client stores a copy of each submission before the job is recorded (`diffedit/submission_copies.py`). When the job has
ended, its copy is settled: the leader among the workers deletes it.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol


class Restoration(NamedTuple):
    """What `restore_job` did.

    Attributes:
        restored: whether the job was recorded.
        repeated_as: the job that was submitted with the same idempotency key meanwhile, if there is one.
    """

    restored: bool
    repeated_as: str | None = None


class SubmissionStore(Protocol):
    """The part of a `JobStore` that is about copies of submissions."""

    def restore_job(self, job_id: str, record: Mapping[str, str], created: float) -> Restoration:
        """Record a job again as it was submitted at this time, and send its message.

        No limit refuses it. Its time limits run since then. A job that is recorded, or has ended, stays as it is.

        Args:
            record: what the client wrote into the record (`records.new_fields`), with `idempotency` and
                `request_digest` if the job had a key.
            created: when it was submitted, by the clock of the server, in seconds since 1970.

        Raises:
            NewerRecord: a newer version has submitted the job.
            BadRecord: the record cannot be read.
        """

    def settle(self, job_ids: Collection[str]) -> None:
        """Note that the copies of these submissions are not needed: the jobs were not recorded."""

    def is_settled(self, job_id: str) -> bool:
        """Return whether the copy of this job is not needed any more, and not yet deleted."""

    def settled_jobs(self, limit: int) -> dict[str, float]:
        """Return jobs whose copies are not needed any more, and since when, the oldest first."""

    def forget_settled(self, job_ids: Collection[str]) -> None:
        """Note that the copies of these jobs are deleted."""

    def data_since(self) -> float | None:
        """Return when the data of the server begin, in seconds since 1970; None if it has none.

        What was submitted before is lost. It is the time of the first job or heartbeat after the last loss.
        """
