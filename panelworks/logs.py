"""The format of log lines: text for people, or one JSON object a line (LOG_FORMAT=json)."""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from panelworks.settings import Settings
from panelworks.text import to_printable

_RECORD_IDS: Final = ("request_id", "flow_run_id", "task_run_id")
"""Attributes that other loggers and filters add to a record."""
_ids: ContextVar[dict[str, str] | None] = ContextVar("log_ids", default=None)
_providers: Final[list[Callable[[], Mapping[str, str]]]] = []


def start_logging(
    settings: Settings,
    *,
    text_format: str,
    loggers: Sequence[str] = ("panelworks",),
    log_filter: logging.Filter | None = None,
    replace: bool = False,
) -> None:
    """Log to standard error: our loggers from LOG_LEVEL on, all others from warnings on.

    Args:
        settings: The settings.
        text_format: Format of a line where LOG_FORMAT is `text`.
        loggers: Names of our loggers.
        log_filter: Filter for all records, which may add attributes.
        replace: Replace handlers that exist, such as those of another library.
    """
    handler = logging.StreamHandler(sys.stderr)
    if log_filter is not None:
        handler.addFilter(log_filter)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else OneLineFormatter(text_format))
    logging.captureWarnings(settings.log_format == "json")
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=replace)
    for name in loggers:
        logging.getLogger(name).setLevel(settings.log_level)


@contextmanager
def log_ids(**ids: str | None) -> Iterator[None]:
    """Add ids, such as `job_id`, to the JSON lines that are logged in a block."""
    known = _ids.get() or {}
    token = _ids.set({**known, **{name: value for name, value in ids.items() if value is not None}})
    try:
        yield
    finally:
        _ids.reset(token)


def add_log_ids(**ids: str) -> None:
    """Add ids to the lines of the surrounding block of `log_ids`; without such a block, do nothing."""
    known = _ids.get()
    if known is not None:
        known.update(ids)


def provide_log_ids(provider: Callable[[], Mapping[str, str]]) -> None:
    """Ask `provider` for ids at every line of this process."""
    if provider not in _providers:
        _providers.append(provider)


class OneLineFormatter(logging.Formatter):
    """Formats log messages as one line, whatever names they contain. A traceback follows."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the base class
        return to_printable(super().formatMessage(record))


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, message, and the ids that are known."""

    def __init__(self, *_: object, **__: object) -> None:
        """Arguments of a logging configuration (format, date format, style) have no effect."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_trace_ids(),
        }
        for provider in _providers:
            line |= provider()
        line |= _ids.get() or {}
        for name in _RECORD_IDS:
            value = getattr(record, name, None)
            if value not in (None, "", "-"):
                line[name] = str(value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line)


def _trace_ids() -> dict[str, str]:
    """The ids of the current span. OpenTelemetry is not imported for this."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
