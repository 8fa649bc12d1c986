"""What happens to every request on the wire: an id, a limit while its body streams, a log line, figures."""

import logging
import re
import time
import uuid
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api_guard import forbid_frames
from panelworks.errors import Rejected
from panelworks.text import to_printable
from service.gateway.metrics import Metrics
from service.gateway.slow_clients import body_limited

logger = logging.getLogger(__name__)

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
request_id: ContextVar[str] = ContextVar("request_id", default="-")


class Wire:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, *, limit: int, seconds: float, metrics: Metrics) -> None:
        """`limit` in bytes of a request's body; it may fall `seconds` behind the slowest rate."""
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

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", mark.encode())]
            await send(message)

        body = body_limited(_limited(receive, self._limit), self._seconds)
        try:
            await self._app(scope, body, forbid_frames(marked))
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(scope["method"], route, status, seconds)
            # The path is decoded: a line break in it would begin a line of the caller's own.
            logger.info(
                "%s %s %s %.0f ms", scope["method"], to_printable(scope["path"]), status, 1000 * seconds
            )
            request_id.reset(token)


def _limited(receive: Receive, limit: int) -> Receive:
    """Stop reading a body as soon as it is too large, whatever its Content-Length said."""
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
    """Puts the id of the request into every log line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True
