"""The log line of each stage."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

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
        )

    def _passes(self, report: StageReport) -> str:
        counts = self._models_of(report.profile).pass_counts
        return f"; so far {counts.requests} calls of the UNet in {counts.passes} passes" if counts else ""
