"""What a running stage reports, step by step: its progress, and previews of the picture for whoever watches."""

from typing import NamedTuple, Protocol

from diffedit.contract.job import State

WATCHED_SECONDS = 10
"""For so long after a request for a preview, the worker makes more of them."""
PREVIEW_SECONDS = 60
"""For so long a preview is kept."""
MAX_PREVIEW_BYTES = 2**15
"""Bytes of a preview, at most."""


class StepReport(NamedTuple):
    """What `report_step` found.

    Attributes:
        outcome: the outcome if the job has ended meanwhile, else None.
        watched: whether somebody has asked for a preview in the last `WATCHED_SECONDS`.
    """

    outcome: State | None
    watched: bool = False


class StepStore(Protocol):
    """The part of a `JobStore` that a stage uses while it runs, and whoever watches it."""

    def report_step(self, job_id: str, step: int, steps: int, worker: str) -> StepReport:
        """Record the progress of the running stage.

        Raises:
            JobElsewhere: this worker does not run the job. JobNotFound: there is no record of it.
        """

    def publish_preview(self, job_id: str, data: bytes) -> None:
        """Keep a preview of the picture as it forms, for `PREVIEW_SECONDS`. That of a deleted job is not kept."""

    def preview(self, job_id: str) -> bytes | None:
        """Return the last preview of the job, if there is one, and ask its worker for more."""
