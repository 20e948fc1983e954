"""The report on each stage that a worker started, when it is over: for the log, the metrics and the traces."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from diffedit.contract.job import JobStatus
from diffedit.contract.stages import Lane, Stage
from diffedit_worker.runtime.running_stage import RunningStage

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a stage that was started."""

    MADE = "made"
    """Its artifacts were made."""
    FOUND = "found"
    """All its artifacts were stored already."""
    FAILED = "failed"
    """The job failed with it."""
    REFUSED = "refused"
    """This worker could not run it, so it goes to another one."""
    REQUEUED = "requeued"
    """It returns to its queue, or waits for another job."""
    DROPPED = "dropped"
    """Nothing is left to do here: the job has ended, or another worker has it."""


@dataclass(frozen=True)
class StageReport:
    """One stage that a worker started, when it is over.

    Attributes:
        job_id: the id of the job.
        stage: the stage.
        profile: the profile of the job.
        lane: its lane.
        owner: whose the job is; None if it has no owner.
        traceparent: the trace that the job belongs to, as the W3C's header of this name; None if it has none.
        worker: the name of the worker.
        attempt: which attempt at the stage this was, from 1.
        waited: seconds from the moment when the stage became due to its start; None if that is not known, because the
            stage was taken over from a worker that was lost.
        started_at: when it started, in seconds since 1970 by this host's clock.
        seconds: all of its time, from the start in the record to the end.
        load_seconds: of these, the time in which it looked for its artifacts and read its inputs.
        compute_seconds: of these, the time of its function, with the loading of the models that it needed first.
        save_seconds: of these, the time in which it stored its artifacts.
        device_seconds: its share of the time of the worker's device.
        outcome: what became of it.
        code: the error code, if it ended with an error; else "".
        out_of_memory: how often memory ran out, also if a second try succeeded.
    """

    job_id: str
    stage: Stage
    profile: str
    lane: Lane
    owner: str | None
    traceparent: str | None
    worker: str
    attempt: int
    waited: float | None
    started_at: float
    seconds: float
    load_seconds: float
    compute_seconds: float
    save_seconds: float
    device_seconds: float
    outcome: Outcome
    code: str
    out_of_memory: int = 0


Observer: TypeAlias = Callable[[StageReport], object]
"""Is called once for each stage that was started, in the thread of the stage. It must be quick."""


def tell(observers: Sequence[Observer], report: StageReport) -> None:
    """Call all observers. An error of one is logged, and reaches neither the stage nor the other observers."""
    for observer in observers:
        try:
            observer(report)
        except Exception:
            log.exception("job %s: an observer of stage %s failed", report.job_id, report.stage.value)


def stage_report(
    current: RunningStage, status: JobStatus, worker: str, outcome: Outcome, code: str = ""
) -> StageReport:
    """Return the report on a stage that is over. `status` is that of the job when it started."""
    times, options = current.times, status.options
    return StageReport(
        job_id=current.job_id,
        stage=current.stage,
        profile=status.request.params.profile,
        lane=options.lane,
        owner=options.owner,
        traceparent=options.traceparent,
        worker=worker,
        attempt=status.attempts.get(current.stage, 1),
        waited=status.waits.get(current.stage),
        started_at=times.began_at,
        seconds=times.seconds,
        load_seconds=times.load,
        compute_seconds=times.compute,
        save_seconds=times.save,
        device_seconds=times.device,
        outcome=outcome,
        code=code,
        out_of_memory=current.out_of_memory,
    )
