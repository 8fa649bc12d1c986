"""The SDK of OpenTelemetry: providers, exporters, and spans. Imported only if a collector is set; needs the extra `otel`."""

import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from panelworks.telemetry import Span, SpanKind, name_attribute

logger = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 60.0
"""After a failed export, for which no process waits for the next one."""
_STAGE_SECONDS: Final = "panelworks.stage.duration"
_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Buckets of the histogram of stages."""
_QUERY: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#'\"<>]*)[?#][^\s'\"<>]*", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#@'\"<>]+@", re.IGNORECASE)
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Export:
    """Sends the spans and metrics of this process to a collector."""

    def __init__(self, service: str, endpoint: str, version: str) -> None:
        # The exporters log each failed attempt. One warning of ours replaces these lines.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        base = endpoint.rstrip("/")
        ours = {
            "service.name": service,
            "service.version": version,
            "service.instance.id": str(uuid.uuid4()),
        }
        resource = Resource.create().merge(Resource(ours)).merge(OTELResourceDetector().detect())
        self._exporter = _RedactingExporter(OTLPSpanExporter(f"{base}/v1/traces"), base)
        # At exit, the providers would wait for half a minute for a collector that does not respond.
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(BatchSpanProcessor(self._exporter))
        trace.set_tracer_provider(self._traces)
        self._metrics = MeterProvider(
            [PeriodicExportingMetricReader(OTLPMetricExporter(f"{base}/v1/metrics"))],
            resource=resource,
            shutdown_on_exit=False,
            views=[
                View(instrument_name=_STAGE_SECONDS, aggregation=ExplicitBucketHistogramAggregation(_SECONDS))
            ],
        )
        metrics.set_meter_provider(self._metrics)
        self._tracer = self._traces.get_tracer("panelworks", version)
        meter = self._metrics.get_meter("panelworks", version)
        self._stage_seconds = meter.create_histogram(
            _STAGE_SECONDS, "s", "Duration of a stage of a page in this process"
        )
        self._pages = meter.create_counter(
            "panelworks.pages", "{page}", "Pages that ended, by status and route"
        )

    @property
    def failed_recently(self) -> bool:
        """Did an export fail within the last minute?"""
        failed_at = self._exporter.failed_at
        return failed_at is not None and time.monotonic() - failed_at < _PAUSE_SECONDS

    def note_failure(self) -> None:
        """An export takes too long: warn, and do not wait for the next one."""
        self._exporter.note_failure()

    def flush(self) -> None:
        """Send what was recorded. It takes as long as the exporter's timeouts allow."""
        self._traces.force_flush()
        if not self.failed_recently:
            self._metrics.force_flush()

    @contextmanager
    def span(self, name: str, kind: SpanKind, parent: str | None, linked: bool) -> Iterator[Span]:
        """Trace a block."""
        with self._tracer.start_as_current_span(
            name,
            context=None if parent is None else _context_of(parent),
            kind=trace.SpanKind[kind.upper()],
            links=[Link(trace.get_current_span().get_span_context())] if linked else None,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield _RecordingSpan(span)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Record the duration of a block, also of one that fails."""
        began, outcome = time.perf_counter(), "failed"
        try:
            yield
            outcome = "done"
        finally:
            labels = {name_attribute("stage"): stage, name_attribute("outcome"): outcome}
            self._stage_seconds.record(time.perf_counter() - began, labels)

    def count_page(self, status: str, route: str, *, cached: bool) -> None:
        """Count a page that has ended."""
        labels: dict[str, str | bool] = {"status": status, "route": route, "cached": cached}
        self._pages.add(1, {name_attribute(name): value for name, value in labels.items()})

    def current_span(self) -> Span:
        """The current span, of any library."""
        return _RecordingSpan(trace.get_current_span())

    def current_traceparent(self) -> str | None:
        """The current span in the W3C format; None if there is none."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")


class _RecordingSpan(Span):
    """A span that is exported."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def set(self, **attributes: Any) -> None:
        self.set_standard({name_attribute(name): value for name, value in attributes.items()})

    def set_standard(self, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            if value is not None:
                self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, code: str) -> None:
        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR, code))


def _context_of(traceparent: str) -> Context:
    """The context of a parent in another process."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, Context())


class _RedactingExporter(SpanExporter):
    """Removes query strings and credentials from addresses in spans, and logs one warning for an outage."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = redact(endpoint)
        self.failed_at: float | None = None
        """When an export failed, in monotonic seconds; None after a success."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            outcome = self._exporter.export([_redacted(span) for span in spans])
        except Exception as error:  # noqa: BLE001 - a trace must not fail anything
            logger.debug("spans not exported: %s", type(error).__name__)
            outcome = SpanExportResult.FAILURE
        if outcome is SpanExportResult.SUCCESS:
            if self.failed_at is not None:
                logger.info("spans are exported again to %s", self._endpoint)
            self.failed_at = None
            return outcome
        self.note_failure()
        return outcome

    def note_failure(self) -> None:
        """Log a warning, if it is the first failure after a success."""
        if self.failed_at is None:
            logger.warning(
                "spans not exported: the collector at %s does not accept them; no further warning until it does",
                self._endpoint,
            )
        self.failed_at = time.monotonic()

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def redact(text: str) -> str:
    """Remove query strings, fragments and credentials from the addresses in a text."""
    return _CREDENTIALS.sub(r"\1", _QUERY.sub(r"\1", text))


def _redacted(span: ReadableSpan) -> ReadableSpan:
    """A copy of a span without query strings of addresses."""
    status = span.status
    return ReadableSpan(
        name=redact(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_without_queries(span.attributes),
        events=[
            Event(event.name, _without_queries(event.attributes), event.timestamp) for event in span.events
        ],
        links=span.links,
        kind=span.kind,
        status=Status(status.status_code, redact(status.description)) if status.description else status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _without_queries(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        name: redact(value) if isinstance(value, str) else value for name, value in (attributes or {}).items()
    }
