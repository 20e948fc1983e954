"""Where our own processes send their spans: to a collector, by OTLP over HTTP, if variables of OpenTelemetry name one.

Workers, the web server and the sender of webhooks call `export_traces` when they start. A program that uses the client
configures its own tracing. All settings are OpenTelemetry's own variables [1]: OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_SDK_DISABLED, ...

Spans are sent by a thread of their own. If the collector is away, that thread repeats and then drops them; whoever made
a span never waits.

[1] https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import logging
import os
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
"""Seconds for which the end of a process waits until its last spans are sent. A collector that is away costs this."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OUR_PROTOCOL = "http/protobuf"
_unknown = "unknown_service"

_provider: "TracerProvider | None" = None
"""That of this process, if it exports."""


def export_traces(service: str) -> bool:
    """Send all spans of this process to the collector that the environment names. Return whether it names one.

    Nothing happens if the program around us has configured tracing before, such as `opentelemetry-instrument`.

    Args:
        service: the name of the service, if OTEL_SERVICE_NAME gives none.
    """
    global _provider
    if not _is_wanted():
        return False
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("traces are not exported: pip install 'diffedit-service[otel]' (%s)", error)
        return False
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return False
    # Its own handler at the end of the process may wait for half a minute; `flush_traces` does not.
    _provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(_provider)
    return True


def flush_traces(seconds: float = FLUSH_SECONDS) -> None:
    """Send the spans that are left, before this process ends. Waits for so many seconds at most."""
    if _provider:
        # The processor's own time limit does not end a request.
        sending = threading.Thread(target=_provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(seconds)


def exit_at_once(code: int) -> NoReturn:
    """End this process without its other threads and handlers, once its last spans are sent, or cannot be."""
    try:
        flush_traces()
    finally:
        os._exit(code)


def _is_wanted() -> bool:
    """Return whether the variables ask for traces, and for a protocol that we have."""
    if not _first_of(ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
        return False
    protocol = _first_of(PROTOCOLS) or OUR_PROTOCOL
    if protocol != OUR_PROTOCOL:
        log.warning("traces are not exported: OTEL_EXPORTER_OTLP_PROTOCOL is %s, not %s", protocol, OUR_PROTOCOL)
    return protocol == OUR_PROTOCOL


def _first_of(names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := os.environ.get(name, "").strip())), "")


def _resource(service: str) -> "Resource":
    """Return what all spans say about this process. The variables of OpenTelemetry have priority."""
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

    found = Resource.create()
    named = {} if not str(found.attributes[SERVICE_NAME]).startswith(_unknown) else {SERVICE_NAME: service}
    return Resource({SERVICE_VERSION: version("diffedit-service")}).merge(found).merge(Resource(named))
