"""Host, Origin and Content-Type checks in front of Prefect's API and UI.

Whoever can call the API can run commands on the workers. Prefect itself checks neither the name under which it is
called nor the web page that calls: a page of another site could send a simple POST, or bind its own name to this
address (DNS rebinding) and read answers. The checks are one ASGI middleware, which needs nothing of Prefect.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NO_FRAMES: Final = (
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
)
_FOREIGN_SITES: Final = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    reason: str


@dataclass(frozen=True)
class _Address:
    name: str
    port: int | None


class ApiGuard:
    """Answers 421 to a foreign Host, 403 to a foreign Origin, 415 to a body that is not JSON."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        """Guard an app.

        Args:
            app: The app that answers what passes.
            hosts: Names, without ports, under which the server is reached besides the loopback names.
            origins: Web origins (`https://prefect.example`) whose pages may call, besides the server's own.
        """
        self._app = app
        self._hosts = LOOPBACK_NAMES | {_plain(host) for host in hosts}
        self._origins = frozenset(origin for one in origins if (origin := _origin(one)) is not None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            await self._app(scope, receive, unframed(send))
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
        """Why this request or WebSocket is refused; None: it passes."""
        headers = Headers(scope=scope)
        given = headers.getlist("host")
        host = _address(given[0]) if len(given) == 1 else None
        if host is None or host.name not in self._hosts:
            return Refusal(
                421, "This server is not reached under this host name; see PANELWORKS_SERVER_HOSTS."
            )
        origins = headers.getlist("origin")
        if any(not self._is_ours(origin, host) for origin in origins):
            return Refusal(403, "Web pages of other sites may not call this server.")
        if not origins and is_foreign_subresource(headers, scope.get("method", "GET")):
            return Refusal(403, "Web pages of other sites may not load anything from this server.")
        if scope["type"] == "http" and scope["method"] in _WITH_BODY and not _body_is_json(headers):
            return Refusal(415, "Bodies are sent with the Content-Type application/json.")
        return None

    def _is_ours(self, origin: str, host: _Address) -> bool:
        """Is it an origin of this server: the address that is called, or another loopback name of it?"""
        parts = _origin(origin)  # None for `null` too: sandboxed frames, files, redirects
        return parts is not None and (parts in self._origins or _is_at(parts, host))


def unframed(send: Send) -> Send:
    """Responses that no page of another site shows in a frame, where its visitor could be made to click."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_NO_FRAMES]
        await send(message)

    return marked


def is_own_origin(origin: str, host: str) -> bool:
    """Does the header Origin name the address that the header Host names, or another loopback name of it?"""
    parts, address = _origin(origin), _address(host)
    return parts is not None and address is not None and _is_at(parts, address)


def _is_at(origin: tuple[str, str, int], host: _Address) -> bool:
    scheme, name, port = origin
    called = host.port if host.port is not None else _DEFAULT_PORTS[scheme]
    return called == port and (name == host.name or {name, host.name} <= LOOPBACK_NAMES)


def is_foreign_subresource(headers: Headers, method: str) -> bool:
    """Did a browser say that a page of another site loads this, other than by opening it as a page of its own?"""
    foreign = headers.get("sec-fetch-site", "") in _FOREIGN_SITES
    is_opened = headers.get("sec-fetch-mode", "") == "navigate" and method in ("GET", "HEAD")
    return foreign and not (is_opened and headers.get("sec-fetch-dest", "document") == "document")


def _body_is_json(headers: Headers) -> bool:
    """True when there is no body; browsers send bodies of other types, or none, without asking first."""
    if "transfer-encoding" not in headers and headers.get("content-length", "0").strip() in ("", "0"):
        return True
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host name and port of an origin; None: it is not one of the web."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return parts.scheme, _plain(parts.hostname), port if port is not None else _DEFAULT_PORTS[parts.scheme]


def _address(host: str) -> _Address | None:
    """The parts of a Host header; None: it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        if not parts.hostname or parts.username is not None or parts.path or parts.query or parts.fragment:
            return None
        return _Address(_plain(parts.hostname), parts.port)
    except ValueError:
        return None


def _plain(name: str) -> str:
    return name.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")


async def _answer(send: Send, refusal: Refusal) -> None:
    body = json.dumps({"exception_message": refusal.reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    # What is left of the request's body is not read: the connection cannot be used again.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
