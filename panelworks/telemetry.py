"""Traces and metrics in the format of OpenTelemetry, sent to the collector of OTEL_EXPORTER_OTLP_ENDPOINT.

Nothing of OpenTelemetry is imported unless that variable is set. Its other variables (OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER ...) are read by its SDK.

A span has no text of an exception: such a text may contain an address with a signature. Spans of other libraries have
texts; the query strings of addresses are removed from them before they are sent.
"""

import atexit
import importlib.util
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from panelworks.errors import PanelworksError, missing_extra_error
from panelworks.settings import Settings
from panelworks.version import __version__

if TYPE_CHECKING:
    from panelworks.telemetry_export import Export

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
FLUSH_SECONDS: Final = 2.0
"""How long a process waits, after a run and before its end, until its spans are sent."""
_SCOPE: Final = "panelworks"
_PREFIX: Final = "panelworks."
_PACKAGES: Final = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class PageOutcome(Protocol):
    """What a page's result says about it in a trace."""

    @property
    def status(self) -> str: ...

    @property
    def route(self) -> str | None: ...

    @property
    def cached(self) -> bool: ...


class Span:
    """A span of a trace. This one records nothing: nothing is traced."""

    def set(self, **attributes: Any) -> None:
        """Set attributes, with the prefix `panelworks.`. None sets nothing."""

    def set_standard(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes whose names OpenTelemetry defines."""

    def rename(self, name: str) -> None:
        """Replace the name."""

    def fail(self, code: str) -> None:
        """Mark the span as failed, with the code of the error."""


class _Telemetry:
    """What this process exports."""

    def __init__(self) -> None:
        self.export: Export | None = None
        self.decided = False


_NO_SPAN: Final = Span()
_telemetry: Final = _Telemetry()
_lock: Final = threading.Lock()


def check_telemetry(settings: Settings) -> None:
    """Check that the packages are installed if a collector is set.

    Raises:
        Misconfigured: `missing_extra`.
    """
    if settings.otlp_endpoint is None:
        return
    for package in _PACKAGES:
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise missing_extra_error(package) or AssertionError(package)


def start_telemetry(service: str, settings: Settings) -> None:
    """Export the spans and metrics of this process, if a collector is set. Only the first call has an effect.

    Args:
        service: Name of the service in traces, unless OTEL_SERVICE_NAME is set.
        settings: The settings.

    Raises:
        Misconfigured: `missing_extra`.
    """
    with _lock:
        if _telemetry.decided:
            return
        check_telemetry(settings)
        _telemetry.decided = True
        if settings.otlp_endpoint is None:
            return
        from panelworks.telemetry_export import Export

        _telemetry.export = Export(service, settings.otlp_endpoint, __version__)
        atexit.register(flush_telemetry)


def leave_telemetry_off() -> None:
    """Export nothing from this process, whatever is imported later. A running export goes on."""
    with _lock:
        _telemetry.decided = True


def is_tracing() -> bool:
    """Does this process export spans?"""
    return _telemetry.export is not None


def flush_telemetry() -> None:
    """Send what was recorded. Waits for `FLUSH_SECONDS` at most, and not at all after a recent failure."""
    export = _telemetry.export
    if export is None or export.failed_recently:
        return
    sender = threading.Thread(target=export.flush, name="panelworks-telemetry", daemon=True)
    try:
        sender.start()
    except RuntimeError:  # the interpreter is shutting down
        return
    sender.join(FLUSH_SECONDS)
    if sender.is_alive():
        export.note_failure()


def _code_of(error: Exception) -> str:
    return error.code if isinstance(error, PanelworksError) else type(error).__name__


@contextmanager
def trace_span(
    name: str,
    *,
    kind: SpanKind = "internal",
    parent: str | None = None,
    linked: bool = False,
    below: bool = False,
    standard: Mapping[str, Any] | None = None,
    code_of: Callable[[Exception], str | None] = _code_of,
    **attributes: Any,
) -> Iterator[Span]:
    """Trace a block. An exception marks the span as failed, with its code or class.

    Args:
        name: Name of the span.
        kind: Its side of a request.
        parent: The `traceparent` of the parent; None: the current span.
        linked: Link it to the current span, which has another trace.
        below: Trace it only below another span: what a loop in the background does belongs to no page.
        standard: Attributes whose names OpenTelemetry defines.
        code_of: The code of an exception; None if it is an expected answer.
        attributes: Attributes with the prefix `panelworks.`.
    """
    export = _telemetry.export
    if export is None or (below and export.current_traceparent() is None):
        yield _NO_SPAN
        return
    with export.span(name, kind, parent, linked) as span:
        span.set_standard(standard or {})
        span.set(**attributes)
        try:
            yield span
        except Exception as error:
            code = code_of(error)
            if code is not None:
                span.fail(code)
            raise


@contextmanager
def trace_stage(stage: str) -> Iterator[Span]:
    """Trace and measure a stage of a page."""
    with trace_span(stage, stage=stage) as span, measure_stage(stage):
        yield span


@contextmanager
def measure_stage(stage: str) -> Iterator[None]:
    """Measure the seconds of a stage whose span comes from elsewhere."""
    export = _telemetry.export
    if export is None:
        yield
        return
    with export.measure(stage):
        yield


def count_page(result: PageOutcome) -> None:
    """Count a page that has ended."""
    if _telemetry.export is not None:
        _telemetry.export.count_page(result.status, result.route or "none", cached=result.cached)


def current_span() -> Span:
    """The current span, of any library."""
    return _NO_SPAN if _telemetry.export is None else _telemetry.export.current_span()


def current_traceparent() -> str | None:
    """The current span in the W3C format; None if nothing is traced."""
    return None if _telemetry.export is None else _telemetry.export.current_traceparent()


def name_attribute(name: str) -> str:
    """The full name of one of our attributes."""
    return _PREFIX + name
