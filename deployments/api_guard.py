"""Host, Origin and Content-Type checks in front of Prefect's API and UI.

Whoever can call the API can run commands on the workers. Prefect itself checks neither the host name nor the web page
of a request: a page of another site could send a simple POST, or point its own host name to this address (DNS
rebinding) and read the answers. The checks are an ASGI middleware, independent of Prefect.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

logger = logging.getLogger(__name__)

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NO_FRAME_HEADERS: Final = (
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
)
_FOREIGN_SITES: Final = frozenset({"cross-site", "same-site"})
"""Values of Sec-Fetch-Site for other origins. `same-site` includes other ports and subdomains."""


@dataclass(frozen=True)
class Refusal:
    """The reason why a request is refused."""

    status: int
    reason: str


@dataclass(frozen=True)
class _Address:
    name: str
    port: int | None


class ApiGuard:
    """Answers 421 to an unknown Host, 403 to a foreign Origin or a foreign subresource request, and 415 to a body that is not JSON."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        """Guard an app.

        Args:
            app: The app that handles accepted requests.
            hosts: Host names, without ports, of the server besides the loopback names.
            origins: Web origins (`https://prefect.example`) whose pages may send requests, besides the server's own.
        """
        self._app = app
        self._hosts = LOOPBACK_NAMES | {_normalize(host) for host in hosts}
        self._origins = frozenset(origin for one in origins if (origin := _origin(one)) is not None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            try:
                await self._app(scope, receive, forbid_frames(send))
            except WebSocketDisconnect:  # Prefect sends to a worker that was stopped while it connected
                logger.info("websocket %s closed: the client has disconnected", scope["path"])
            return
        logger.warning(
            "request refused: %s (%s %s)", refusal.reason, scope.get("method", "WS"), scope["path"]
        )
        if scope["type"] == "websocket":
            await receive()  # the connection request
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason})
            return
        await _answer(send, refusal)

    def refusal(self, scope: Scope) -> Refusal | None:
        """The reason to refuse this request or WebSocket; None: it is accepted."""
        headers = Headers(scope=scope)
        given = headers.getlist("host")
        host = _address(given[0]) if len(given) == 1 else None
        if host is None or host.name not in self._hosts:
            return Refusal(421, "This server does not have this host name; see PANELWORKS_SERVER_HOSTS.")
        origins = headers.getlist("origin")
        if any(not self._is_accepted_origin(origin, host) for origin in origins):
            return Refusal(403, "Web pages of other sites may not send requests to this server.")
        if not origins and is_foreign_subresource(headers, scope.get("method", "GET")):
            return Refusal(403, "Web pages of other sites may not load anything from this server.")
        if scope["type"] == "http" and scope["method"] in _METHODS_WITH_BODY and not _body_is_json(headers):
            return Refusal(415, "Bodies need the Content-Type application/json.")
        return None

    def _is_accepted_origin(self, origin: str, host: _Address) -> bool:
        """Whether the origin is accepted: a configured one, the requested address, or another loopback name of it."""
        parts = _origin(origin)  # None also for `null`: sandboxed frames, files, redirects
        return parts is not None and (parts in self._origins or _matches(parts, host))


def forbid_frames(send: Send) -> Send:
    """Add headers to responses so that no page of another site shows them in a frame (clickjacking)."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_NO_FRAME_HEADERS]
        await send(message)

    return send_with_headers


def is_own_origin(origin: str, host: str) -> bool:
    """Whether the header Origin names the address in the header Host, or another loopback name of it."""
    parts, address = _origin(origin), _address(host)
    return parts is not None and address is not None and _matches(parts, address)


def _matches(origin: tuple[str, str, int], host: _Address) -> bool:
    scheme, name, port = origin
    port_of_host = host.port if host.port is not None else _DEFAULT_PORTS[scheme]
    return port_of_host == port and (name == host.name or {name, host.name} <= LOOPBACK_NAMES)


def is_foreign_subresource(headers: Headers, method: str) -> bool:
    """Whether, according to the browser, a page of another site loads this without opening it as a page of its own."""
    foreign = headers.get("sec-fetch-site", "") in _FOREIGN_SITES
    is_opened = headers.get("sec-fetch-mode", "") == "navigate" and method in ("GET", "HEAD")
    return foreign and not (is_opened and headers.get("sec-fetch-dest", "document") == "document")


def _body_is_json(headers: Headers) -> bool:
    """Whether the Content-Type is JSON or there is no body. Browsers send bodies of some other types without a preflight request."""
    if "transfer-encoding" not in headers and headers.get("content-length", "0").strip() in ("", "0"):
        return True
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host name and port of an origin; None: it is not a web origin."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return (
        parts.scheme,
        _normalize(parts.hostname),
        port if port is not None else _DEFAULT_PORTS[parts.scheme],
    )


def _address(host: str) -> _Address | None:
    """Host name and port of a Host header; None: it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        if not parts.hostname or parts.username is not None or parts.path or parts.query or parts.fragment:
            return None
        return _Address(_normalize(parts.hostname), parts.port)
    except ValueError:
        return None


def _normalize(name: str) -> str:
    return name.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"exception_message": refusal.reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # The rest of the request's body is not read, so the connection cannot be reused.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
