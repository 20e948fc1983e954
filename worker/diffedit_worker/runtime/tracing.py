"""The spans of stages, made of their reports when they are over.

    wait <stage>       from the moment when the stage became due to its start
    stage <stage>      from its start in the job's record to its end
      load             it looked for its artifacts and read its inputs
      compute          its function ran
      save             it stored its artifacts

They are children of the span that submitted the job. A job whose client was not traced has a trace nevertheless, so
that its stages and its webhooks are seen together: its id is the id of the job. Nobody exports its root.
"""

from typing import TYPE_CHECKING

from diffedit import tracing
from diffedit_worker.runtime.stage_report import Outcome, StageReport

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

FAULTS = (Outcome.FAILED, Outcome.REFUSED)
"""What is an error in a trace. A stage that returns to its queue for another reason is none."""


class StageTracer:
    """An observer that makes the spans of each stage. It does nothing if this process is not traced."""

    def __call__(self, report: StageReport) -> None:
        trace = tracing.trace_of(report.job_id, report.traceparent)
        if trace is None or not tracing.is_traced():
            return
        from opentelemetry.trace import SpanKind, set_span_in_context

        tracer, began, ended = tracing.tracer(), _ns(report.started_at), _ns(report.started_at + report.seconds)
        parent, name = tracing.context_of(trace), report.stage.value
        about = _attributes(report)
        if report.waited is not None:
            tracer.start_span(f"wait {name}", parent, attributes=about, start_time=began - _ns(report.waited)).end(
                began
            )
        stage = tracer.start_span(
            f"stage {name}", parent, SpanKind.CONSUMER, {**about, **_findings(report)}, start_time=began
        )
        if report.outcome in FAULTS:
            tracing.ActiveSpan(stage).fail(report.code)
        _make_parts(report, tracer, set_span_in_context(stage, parent), ended)
        stage.end(ended)


def _make_parts(report: StageReport, tracer: "Tracer", stage: "Context", ended: int) -> None:
    """Make the spans of the parts. The report has their lengths; the last one ends with the stage, or nearly so."""
    parts = {"save": report.save_seconds, "compute": report.compute_seconds, "load": report.load_seconds}
    for name, seconds in parts.items():
        if seconds:
            began = ended - _ns(seconds)
            tracer.start_span(name, stage, start_time=began).end(ended)
            ended = began


def _attributes(report: StageReport) -> dict[str, tracing.Attribute]:
    return _named(
        job=report.job_id,
        stage=report.stage.value,
        profile=report.profile,
        lane=report.lane.value,
        owner=report.owner,
    )


def _findings(report: StageReport) -> dict[str, tracing.Attribute]:
    return _named(
        worker=report.worker,
        attempt=report.attempt,
        outcome=report.outcome.value,
        code=report.code or None,
        device_seconds=report.device_seconds or None,
    )


def _named(**values: tracing.Attribute | None) -> dict[str, tracing.Attribute]:
    return tracing.given({f"diffedit.{name}": value for name, value in values.items()})


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
