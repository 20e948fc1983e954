"""Whether a process of ours exports its spans, where to, and under which name."""

import logging
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from diffedit import trace_export
from diffedit.trace_export import export_traces, flush_traces
from tests.support.collector import Collector, collecting
from tests.support.spans import traced

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test configures: OpenTelemetry can be configured only once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", trace.Once())
    monkeypatch.setattr(trace_export, "_provider", None)


def set_variables(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_is_configured(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    set_variables(monkeypatch, **variables)
    assert not export_traces("diffedit-worker")
    assert not isinstance(trace.get_tracer_provider(), TracerProvider)
    flush_traces()


def test_a_protocol_that_is_not_ours_is_refused_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=NOBODY, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert not export_traces("diffedit-worker")
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in caplog.text


def test_the_tracing_of_the_program_around_us_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = traced(monkeypatch)
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=NOBODY)
    assert not export_traces("diffedit-worker")
    assert trace.get_tracer_provider() is spans.provider


@pytest.fixture
def collector() -> Collector:
    with collecting() as collector:
        yield collector


@pytest.mark.parametrize(
    ("variables", "service"),
    [
        ({}, "diffedit-worker"),
        ({"OTEL_SERVICE_NAME": "edits"}, "edits"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=pictures,region=eu"}, "pictures"),
    ],
)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_last_spans_arrive_under_the_name_of_the_service(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, variables: dict[str, str], service: str, compression: str
) -> None:
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, **variables)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    assert export_traces("diffedit-worker")
    with trace.get_tracer("test").start_as_current_span("work") as span:
        span.set_attribute("diffedit.attempt", 1)
    flush_traces(30)
    (found,) = collector.spans_of(f"{span.get_span_context().trace_id:032x}")
    assert (found.service, found.name, found.attributes) == (service, "work", {"diffedit.attempt": 1})


def test_the_end_of_a_process_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=NOBODY)
    assert export_traces("diffedit-worker")
    hangs, release = threading.Event(), threading.Event()
    monkeypatch.setattr(trace_export._provider, "shutdown", lambda: (hangs.set(), release.wait(60)))
    flush_traces(0.01)
    assert hangs.wait(30) and not release.is_set()
    release.set()


def test_spans_are_dropped_when_the_collector_is_away_and_whoever_makes_them_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")
    set_variables(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT=NOBODY, OTEL_BSP_MAX_QUEUE_SIZE="600")
    assert export_traces("diffedit-worker")
    tracer = trace.get_tracer("test")
    sending = {thread.name for thread in threading.enumerate() if "Otel" in thread.name}
    for _ in range(5000):
        tracer.start_span("work").end()
    assert sending and threading.current_thread().name not in sending
    flush_traces(0.01)
