"""Limits on the time that a client may take to send a request, which uvicorn does not have.

A client that sends one byte a second would otherwise occupy a connection, and with a body a handler, for as long as it likes.
"""

import asyncio
import time
from typing import Any, Final

import h11
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

from panelworks.errors import Rejected

MIN_BYTES_PER_SECOND: Final = 16 * 1024
"""A body that arrives more slowly falls behind; how many seconds it may, the settings say."""


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
            """Refuse what is no GET: the WebSocket protocol would keep the connection and never answer."""
            if event.method == b"GET":
                super().handle_websocket_upgrade(event)
            else:
                self.send_400_response("A WebSocket begins with GET.")

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_watching()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Have the timer run while headers are awaited, or a body that nobody reads."""
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
        if complete:  # what comes now is the end of the connection, which may take as long as the answer
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
