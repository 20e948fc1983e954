"""The progress of running stages, and previews of edits, for whoever watches."""

import logging
import time
from collections.abc import Callable

from diffedit.errors import ServiceError
from diffedit.jobs.steps import MAX_PREVIEW_BYTES, StepStore
from diffedit_worker.runtime.dispositions import raise_if_ended
from diffedit_worker.runtime.running_stage import RunningStage

log = logging.getLogger(__name__)

Preview = Callable[[], bytes]
"""Makes the file of a small picture."""
PREVIEW_INTERVAL = 0.5
"""Seconds between two previews of a job. More would cost a fast device too much."""


def report_step(
    job_store: StepStore, current: RunningStage, step: int, steps: int, worker: str, preview: Preview | None
) -> None:
    """Report the progress of a stage, and publish a preview if there can be one and somebody watches.

    Raises:
        JobEnded: the job has ended meanwhile.
        JobElsewhere, JobNotFound, ServiceError: as `StepStore.report_step`.
    """
    report = job_store.report_step(current.job_id, step, steps, worker)
    raise_if_ended(report.outcome)
    current.last_reported_at = time.monotonic()
    if preview and report.watched:
        publish_preview(job_store, current, preview)


def publish_preview(job_store: StepStore, current: RunningStage, preview: Preview) -> None:
    """Make and publish a preview, unless the last one is young. Whatever fails here, the job goes on without it."""
    if time.monotonic() - current.last_preview_at < PREVIEW_INTERVAL:
        return
    try:
        data = preview()
        if len(data) <= MAX_PREVIEW_BYTES:
            job_store.publish_preview(current.job_id, data)
    except ServiceError as error:
        log.info("job %s: no preview: %s", current.job_id, error)
    except Exception:
        # A model of an unknown kind, or no memory left. What is the device's fault shows in the next step.
        log.warning("job %s: a preview cannot be made", current.job_id, exc_info=True)
    current.last_preview_at = time.monotonic()
