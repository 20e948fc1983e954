"""A collector of traces: it receives spans by OTLP over HTTP, as those of OpenTelemetry do."""

import gzip
import http.server
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


@dataclass(frozen=True)
class CollectedSpan:
    """A span as it was received. Times are in seconds since 1970, ids in hex; `parent` is "" for a root."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    began_at: float
    ended_at: float
    attributes: dict[str, Any]


class Collector(http.server.ThreadingHTTPServer):
    """A collector on this machine.

    Attributes:
        endpoint: the value of OTEL_EXPORTER_OTLP_ENDPOINT.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self._spans: list[CollectedSpan] = []

    def receive(self, body: bytes) -> None:
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_resource.resource.attributes)
            self._spans += [
                CollectedSpan(
                    resource["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9,
                    _values(span.attributes),
                )
                for of_scope in of_resource.scope_spans
                for span in of_scope.spans
            ]

    def spans_of(self, trace: str) -> list[CollectedSpan]:
        """Return the spans of a trace that have arrived, in the order of their starts."""
        return sorted((span for span in self._spans if span.trace == trace), key=lambda span: span.began_at)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.receive(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _values(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, str(value.WhichOneof("value")))


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""
    with Collector() as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
