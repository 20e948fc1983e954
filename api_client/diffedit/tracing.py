"""Spans of OpenTelemetry, in programs that are traced.

A program that traces has imported `opentelemetry.trace`, or its instrumentation has. So we never import it first: a
program without tracing pays one look into a dict for each span, and needs no further package. We use the program's own
tracer provider and configure none (`trace_export.py` does, in our own processes). Where the program has none, no span
is made, but the trace of a caller is handed on.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer

SCOPE = "diffedit"
"""The name of our tracer, the instrumentation scope of our spans."""
Kind: TypeAlias = Literal["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
Attribute: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Attribute | None]
"""The attributes of a span. Those that are None are left out."""


class ActiveSpan:
    """The span of a context, or nothing if this program is not traced."""

    def __init__(self, span: "Span | None" = None) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """What is sent to those who continue the trace, as W3C Trace Context; None if there is no trace."""
        return traceparent_of(self._span.get_span_context()) if self._span else None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Let it be the current span inside the context. An exception that leaves the context is noted in it."""
        if not self._span:
            yield
            return
        from opentelemetry.trace import use_span

        with use_span(self._span, record_exception=True, set_status_on_exception=True):
            yield

    def end(self) -> None:
        """End a span of `begun_span`."""
        if self._span:
            self._span.end()

    def rename(self, name: str) -> None:
        if self._span:
            self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        if self._span:
            self._span.set_attributes(given(attributes))

    def fail(self, reason: str | None = None) -> None:
        """Say that what the span stands for has failed."""
        if self._span:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, reason))


NO_SPAN = ActiveSpan()


def is_traced() -> bool:
    """Return whether something in this process has imported OpenTelemetry."""
    return "opentelemetry.trace" in sys.modules


@contextmanager
def span(
    name: str,
    kind: Kind = "INTERNAL",
    attributes: Attributes | None = None,
    *,
    parent: str | None = None,
    began_at: int | None = None,
) -> Iterator[ActiveSpan]:
    """Let a span last as long as the context. An exception that leaves the context is noted in it.

    Args:
        name: what is done. It has no ids, so that spans of one name can be compared.
        kind: as OpenTelemetry has it.
        attributes: what else is known of it.
        parent: the `traceparent` of the parent. Default: the current span.
        began_at: when it began, in nanoseconds since 1970. Default: now.
    """
    if not is_traced():
        yield NO_SPAN
        return
    from opentelemetry.trace import SpanKind

    context = context_of(parent) if parent else None
    starting = tracer().start_as_current_span(
        name, context, SpanKind[kind], given(attributes or {}), start_time=began_at
    )
    with starting as started:
        yield ActiveSpan(started)


def begun_span(name: str, began_at: int | None = None) -> ActiveSpan:
    """Return a new child of the current span, which lasts until it is ended. It is not the current one itself.

    The arguments are those of `span`.
    """
    return ActiveSpan(tracer().start_span(name, start_time=began_at)) if is_traced() else NO_SPAN


def traceparent_of(context: "SpanContext") -> str | None:
    """Return the `traceparent` that names this span; None if it names none."""
    if not context.is_valid:
        return None
    # Of the flags, readers of version 00 need only the first.
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"


def trace_of(job_id: str, traceparent: str | None) -> str | None:
    """Return the `traceparent` under which the spans of a job are found, whether its client was traced or not.

    Without a recorded one, the id of the trace is the id of the job, and our sampler decides whether it is sampled. It
    looks at the last bits, two of which are the same in all random UUIDs, so it gets the halves of the id exchanged.

    Returns:
        None if there is no trace: nothing was recorded, and this program makes no spans.
    """
    if traceparent or not is_traced():
        return traceparent
    from opentelemetry.trace import get_tracer_provider

    sampler: Any = getattr(get_tracer_provider(), "sampler", None)
    if sampler is None:
        return None
    half = len(job_id) // 2
    decision = sampler.should_sample(None, int(job_id[half:] + job_id[:half], 16), "job").decision
    return f"00-{job_id}-{job_id[:half]}-{decision.is_sampled():02x}"


def context_of(traceparent: str) -> "Context":
    """Return a context whose current span is the one that this `traceparent` names. Imports OpenTelemetry."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    _, trace_id, span_id, flags = traceparent.split("-")
    named = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(named))


def tracer() -> "Tracer":
    """Return our tracer of the program's tracer provider. Imports OpenTelemetry."""
    from opentelemetry.trace import get_tracer

    return get_tracer(SCOPE)


def given(attributes: Attributes) -> dict[str, Attribute]:
    """Return the attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}
