"""Spans that this process makes, kept in memory."""

from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler


class Spans:
    """What a tracer provider has exported."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> Sequence[ReadableSpan]:
        """All spans that have ended, in the order of their starts."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    @property
    def trace_ids(self) -> set[str]:
        return {f"{span.context.trace_id:032x}" for span in self.all}

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.all if span.name == name]
        return found

    def parent_of(self, span: ReadableSpan) -> str | None:
        """Return the name of the span's parent; None if no span of ours is it."""
        named = {each.context.span_id: each.name for each in self.all}
        return named.get(span.parent.span_id) if span.parent else None

    def clear(self) -> None:
        self._exporter.clear()


def traced(patch: pytest.MonkeyPatch, sampler: Sampler = ALWAYS_ON) -> Spans:
    """Let this program be traced for as long as `patch` lasts: OpenTelemetry can be configured only once."""
    spans = Spans(sampler)
    patch.setattr(trace, "_TRACER_PROVIDER", spans.provider)
    return spans
