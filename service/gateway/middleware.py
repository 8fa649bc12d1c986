"""The outermost layer of the app: a request id, limits on size and duration, a log line, metrics."""

import asyncio
import logging
import re
import time
import uuid
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Final

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from deployments.api_guard import forbid_frames
from panelworks.domain.fields import read_traceparent
from panelworks.errors import Rejected
from panelworks.logs import log_ids
from panelworks.settings import Settings
from panelworks.telemetry import Span, trace_span
from panelworks.text import to_printable
from service.gateway.metrics import Metrics

MIN_BYTES_PER_SECOND: Final = 16 * 1024
"""A slower body falls behind. The settings limit by how many seconds."""


def header_limited(seconds: float) -> type[H11Protocol]:
    """The protocol of uvicorn, which closes a connection whose request line and headers take longer than `seconds`."""

    class HeaderLimited(H11Protocol):
        _header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            """Refuse methods other than GET: the WebSocket protocol would keep the connection and never respond."""
            if event.method == b"GET":
                super().handle_websocket_upgrade(event)
            else:
                self.send_400_response("A WebSocket begins with GET.")

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Run the timer while headers are awaited, or a body that no handler reads."""
            unread = self.cycle is not None and self.cycle.response_complete
            if self.conn.their_state is h11.IDLE or (self.conn.their_state is h11.SEND_BODY and unread):
                if self._header_timer is None:
                    self._header_timer = self.loop.call_later(seconds, self._close)
            else:
                self._stop_watching()

        def _stop_watching(self) -> None:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _close(self) -> None:
            self._header_timer = None
            if not self.transport.is_closing():
                self.transport.close()

    return HeaderLimited


def body_limited(receive: Receive, seconds: float) -> Receive:
    """Stop reading a body that falls more than `seconds` behind `MIN_BYTES_PER_SECOND`.

    The returned callable raises `Rejected`: `body_too_slow`.
    """
    began, received, complete = time.monotonic(), 0, False

    async def timed() -> Message:
        nonlocal received, complete
        if complete:  # the next message is the end of the connection, which may take as long as the response
            return await receive()
        left = began + seconds + received / MIN_BYTES_PER_SECOND - time.monotonic()
        try:
            message: Any = await asyncio.wait_for(receive(), max(0.0, left))
        except TimeoutError:
            raise Rejected(
                "body_too_slow",
                f"The request's body arrives at less than {MIN_BYTES_PER_SECOND // 1024} KiB a second.",
            ) from None
        received += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        return dict(message)

    return timed


logger = logging.getLogger(__name__)
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MONITOR_PATHS: Final = frozenset({"/api/health", "/metrics"})
"""Requests of monitors would be most of the traces."""
request_id: ContextVar[str] = ContextVar("request_id", default="-")


class RequestMiddleware:
    """The outermost layer of the app: request id, limits, log line, metrics."""

    def __init__(self, app: ASGIApp, *, limit: int, seconds: float, metrics: Metrics) -> None:
        """`limit` is the maximum size of a body in bytes; it may fall `seconds` behind the slowest rate."""
        self._app = app
        self._limit = limit
        self._seconds = seconds
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        mark = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = mark
        token, began, status = request_id.set(mark), time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", mark.encode())]
            await send(message)

        body = body_limited(_limited(receive, self._limit), self._seconds)
        with log_ids(), _traced(scope, mark) as span:
            try:
                await self._app(scope, body, forbid_frames(send_with_id))
            finally:
                seconds = time.perf_counter() - began
                route = getattr(scope.get("route"), "path", "other")
                self._metrics.count_response(scope["method"], route, status, seconds)
                span.rename(f"{scope['method']} {route}")
                span.set_standard({"http.route": route, "http.response.status_code": status})
                if status >= 500:
                    span.fail(str(status))
                # The path is decoded: a line break in it would start a forged log line.
                logger.info(
                    "%s %s %s %.0f ms", scope["method"], to_printable(scope["path"]), status, 1000 * seconds
                )
                request_id.reset(token)


def _traced(scope: Scope, mark: str) -> AbstractContextManager[Span]:
    """The span of a request, in the trace of its client; none for monitors. Its query string is not recorded."""
    if scope["path"] in _MONITOR_PATHS:
        return nullcontext(Span())
    given = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
    return trace_span(
        scope["method"],
        kind="server",
        parent=read_traceparent(given),
        standard={"http.request.method": scope["method"], "url.scheme": scope["scheme"]},
        request_id=mark,
    )


def _limited(receive: Receive, limit: int) -> Receive:
    """Stop reading a body as soon as it is too large, whatever its Content-Length is."""
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise Rejected("too_large", f"The request has more than {limit / 2**20:.0f} MiB.")
        return message

    return counting


class WithRequestId(logging.Filter):
    """Adds the id of the request to every log line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


def connection_options(settings: Settings) -> dict[str, Any]:
    """Options of uvicorn for connections to the gateway: limits on headers, and proxies that may name the client."""
    return {
        "http": header_limited(settings.slow_request_seconds),
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": list(settings.trusted_proxies),
    }
