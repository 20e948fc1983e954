"""The log line of each stage."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffedit.contract.validation import TRACEPARENT
from diffedit.tracing import trace_of
from diffedit_worker.runtime.stage_report import Outcome, StageReport

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models

log = logging.getLogger(__name__)


class StageLog:
    """An observer that logs one line for each stage. `models_of` returns the models of a profile."""

    def __init__(self, models_of: "Callable[[str], Models]") -> None:
        self._models_of = models_of

    def __call__(self, report: StageReport) -> None:
        log.info(
            "job %s: %s %s in %.2f s%s",
            report.job_id,
            report.stage.value,
            report.outcome.value,
            report.seconds,
            self._passes(report) if report.outcome in (Outcome.MADE, Outcome.FOUND) else "",
            extra=fields_of(report),
        )

    def _passes(self, report: StageReport) -> str:
        counts = self._models_of(report.profile).pass_counts
        return f"; so far {counts.requests} calls of the UNet in {counts.passes} passes" if counts else ""


def fields_of(report: StageReport) -> dict[str, Any]:
    """Return the fields of a line of JSON. Seconds are rounded to milliseconds."""
    trace = trace_of(report.job_id, report.traceparent) or ""
    seconds = {
        "seconds": report.seconds,
        "load_seconds": report.load_seconds,
        "compute_seconds": report.compute_seconds,
        "save_seconds": report.save_seconds,
        "device_seconds": report.device_seconds,
        "waited": report.waited,
    }
    return {
        "job": report.job_id,
        "stage": report.stage.value,
        "profile": report.profile,
        "lane": report.lane.value,
        "owner": report.owner,
        "worker": report.worker,
        "attempt": report.attempt,
        "outcome": report.outcome.value,
        "code": report.code,
        "trace_id": trace.split("-")[1] if TRACEPARENT.fullmatch(trace) else None,
        **{name: value if value is None else round(value, 3) for name, value in seconds.items()},
    }
