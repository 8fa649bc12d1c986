"""A collector of OpenTelemetry on loopback: receives traces and metrics over HTTP and decodes them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.servers import QuietHandler, serving


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as the collector received it."""

    service: str
    scope: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    linked_traces: tuple[str, ...]
    began: int
    ended: int


class Collector:
    """What was received."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        """The bodies of all requests."""
        self.metrics: dict[str, float] = {}
        """Sums of counters and counts of histograms, by name, of the latest export of each process."""
        self._spans: list[ReceivedSpan] = []
        self._lock = threading.Lock()

    @property
    def spans(self) -> list[ReceivedSpan]:
        with self._lock:
            return list(self._spans)

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """The spans of a trace, in order of time."""
        return sorted((one for one in self.spans if one.trace_id == trace_id), key=lambda one: one.began)

    def named(self, name: str) -> list[ReceivedSpan]:
        """All spans of this name."""
        return [one for one in self.spans if one.name == name]

    def path(self, span: ReceivedSpan) -> list[str]:
        """Names from the root of the trace to a span."""
        known = {one.span_id: one for one in self.spans}
        names = [span.name]
        while span.parent_id in known:
            span = known[span.parent_id]
            names.append(span.name)
        return names[::-1]

    def receive_traces(self, body: bytes) -> None:
        """Decode a request to `/v1/traces`."""
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.bodies.append(body)
            for group in request.resource_spans:
                service = _attributes(group.resource.attributes)["service.name"]
                for scoped in group.scope_spans:
                    self._spans += [_received(service, scoped.scope.name, span) for span in scoped.spans]

    def receive_metrics(self, body: bytes) -> None:
        """Decode a request to `/v1/metrics`."""
        request = ExportMetricsServiceRequest.FromString(body)
        with self._lock:
            for group in request.resource_metrics:
                for metric in (metric for scoped in group.scope_metrics for metric in scoped.metrics):
                    points = [point.as_int or point.as_double for point in metric.sum.data_points]
                    points += [point.count for point in metric.histogram.data_points]
                    self.metrics[metric.name] = float(sum(points))


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector until the end of the block."""
    collector = Collector()

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name of the base class
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receive = {"/v1/traces": collector.receive_traces, "/v1/metrics": collector.receive_metrics}
            receive[self.path](body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as url:
        collector.url = url
        yield collector


def _received(service: str, scope: str, span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        service,
        scope,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        _attributes(span.attributes),
        span.status.code == span.status.STATUS_CODE_ERROR,
        tuple(link.trace_id.hex() for link in span.links),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value") or "string_value"
    return (
        [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)
    )
