"""Who may call: API keys, rate limits, and, without keys, only pages of this very machine."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.routing import APIRoute
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.requests import HTTPConnection

from panelworks.errors import Misconfigured, PanelworksError
from panelworks.settings import Settings

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SUBPROTOCOL: Final = "key."


class Refused(PanelworksError):
    """The caller may not do this: `unauthorized`, `forbidden_origin` or `rate_limited`."""


class Keyring:
    """The keys of the gateway: names, and hashes of what is to be presented."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        """`entries` as in PANELWORKS_API_KEYS: `name:sha256`.

        Raises:
            Misconfigured: `bad_api_keys`.
        """
        self._hashes: dict[str, bytes] = {}
        for entry in entries:
            name, _, digest = entry.partition(":")
            if not name or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise Misconfigured(
                    "bad_api_keys",
                    "PANELWORKS_API_KEYS holds name:sha256 entries; make one by 'panelworks keys new'.",
                )
            self._hashes[name] = digest.encode()

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def owner(self, key: str) -> str | None:
        """The name of a key, None for one that is unknown; takes as long whichever it is."""
        presented = hash_of(key).encode()
        found = None
        for name, digest in self._hashes.items():
            if hmac.compare_digest(presented, digest):
                found = name
        return found


def new_key() -> tuple[str, str]:
    """A key and the hash to configure. 256 random bits need no slow hash."""
    key = f"pw_{secrets.token_urlsafe(32)}"
    return key, hash_of(key)


def hash_of(key: str) -> str:
    """SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


class Access:
    """Decides about each call."""

    def __init__(self, settings: Settings) -> None:
        """Raises `Misconfigured`: `bad_api_keys`, `bad_rate_limit`."""
        self.keys = Keyring(settings.api_keys)
        self._origins = frozenset(settings.cors_origins)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        try:
            self._limit = parse(settings.rate_limit)
        except ValueError as error:
            raise Misconfigured(
                "bad_rate_limit", "PANELWORKS_RATE_LIMIT reads like 100/minute or 10/second."
            ) from error

    def check(self, connection: HTTPConnection) -> str:
        """The name of the caller.

        Raises:
            Refused: `unauthorized`, `forbidden_origin`, `rate_limited`.
        """
        address = connection.client.host if connection.client else "unknown"
        self._refuse_foreign_pages(connection)
        caller = self.keys.owner(_presented(connection)) if self.keys else address
        if caller is None:
            self._count(f"refused:{address}")
            raise Refused("unauthorized", "This needs an API key, in the header X-API-Key.")
        self._count(caller)
        return caller

    def _count(self, caller: str) -> None:
        if not self._limiter.hit(self._limit, caller):
            raise Refused("rate_limited", "Too many requests; try again in a while.")

    def _refuse_foreign_pages(self, connection: HTTPConnection) -> None:
        """A browser's page of another site must not use a gateway that trusts its own machine.

        Browsers name the page's site in Origin, and a name that was bent to this address in Host.
        """
        host = connection.headers.get("host", "")
        origin = connection.headers.get("origin")
        foreign = origin is not None and origin not in self._origins and urlsplit(origin).netloc != host
        bent = not self.keys and _hostname(host) not in LOOPBACK
        if foreign or bent:
            raise Refused("forbidden_origin", "Calls from this web page, or under this name, are not taken.")


def _presented(connection: HTTPConnection) -> str:
    """The key in X-API-Key or Authorization; browsers' WebSockets can send it as the subprotocol `key.KEY`."""
    header = connection.headers.get("x-api-key")
    if header is not None:
        return header
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token
    offered = connection.headers.get("sec-websocket-protocol", "").split(",")
    return next(
        (one.strip().removeprefix(_SUBPROTOCOL) for one in offered if one.strip().startswith(_SUBPROTOCOL)),
        "",
    )


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class GuardedRoute(APIRoute):
    """A route that asks who calls before it reads anything of a request's body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            access: Access = request.app.state.gateway.access
            access.check(request)
            return await handle(request)

        return guarded
