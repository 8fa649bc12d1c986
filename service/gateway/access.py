"""Who may call: API keys and rate limits. Without keys, only this machine may call."""

import hashlib
import hmac
import ipaddress
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from limits import RateLimitItem, parse
from starlette.requests import HTTPConnection

from deployments.api_guard import is_foreign_subresource, is_own_origin
from panelworks.errors import Misconfigured, PanelworksError
from panelworks.settings import Settings
from service.gateway.bodies import check_request, drop_json
from service.gateway.sessions import is_signed, name_in_session, session_cookie, sign_session

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
ADMIN: Final = "admin"
"""The suffix of the entry of a key that may read the jobs of all keys."""
_SUBPROTOCOL: Final = "key."
MAX_CALLERS: Final = 10_000
"""Callers that are counted at a time. Beyond that, the callers whose last request is oldest are dropped."""
MAX_HITS: Final = 1_000_000
"""Requests that are stored at a time, of all callers together: 32 MB."""
_IPV6_SUBSCRIBER_BITS: Final = 64
UNKNOWN_CALLER: Final = "unknown"


class MovingWindows:
    """Counts the requests of each caller in a moving window, in bounded memory. For one thread.

    Own code: the storage of `limits` never drops a caller, and reads all of them at each request (5.8.0).
    """

    def __init__(self, limit: RateLimitItem, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._amount: Final = limit.amount
        self._window_seconds: Final = limit.get_expiry()
        self._clock: Final = clock
        self._hits: OrderedDict[str, deque[float]] = OrderedDict()
        """In the order of the last accepted request."""
        self._hit_count = 0

    def __len__(self) -> int:
        """The number of callers that are counted."""
        return len(self._hits)

    def hit(self, caller: str) -> int | None:
        """Count a request: None when it is accepted, else the seconds until the caller's next request is accepted."""
        now = self._clock()
        self._drop_expired(now - self._window_seconds)
        hits = self._hits.get(caller, deque())
        while hits and hits[0] <= now - self._window_seconds:
            hits.popleft()
            self._hit_count -= 1
        if len(hits) >= self._amount:
            first = hits[0] if hits else now
            return max(1, math.ceil(first + self._window_seconds - now))
        hits.append(now)
        self._hit_count += 1
        self._hits[caller] = hits
        self._hits.move_to_end(caller)
        while len(self._hits) > MAX_CALLERS or (self._hit_count > MAX_HITS and len(self._hits) > 1):
            self._drop_first()
        return None

    def _drop_expired(self, since: float) -> None:
        while self._hits and next(iter(self._hits.values()))[-1] <= since:
            self._drop_first()

    def _drop_first(self) -> None:
        _, hits = self._hits.popitem(last=False)
        self._hit_count -= len(hits)


def counted_address(host: str | None) -> str:
    """The name under which a client without a key is counted: its IPv4 address, or the /64 network of its IPv6 address.

    One subscriber has a whole /64 of IPv6 addresses. All texts that are no addresses have one name.
    """
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return UNKNOWN_CALLER
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_SUBSCRIBER_BITS), strict=False))


class Refused(PanelworksError):
    """The caller may not do this: `unauthorized`, `forbidden_origin`, `admin_only` or `rate_limited`."""

    retry_after_seconds: int | None = None
    """When the next request is accepted, where that is known."""


@dataclass(frozen=True)
class Caller:
    """The origin of a request, and the jobs that it may read."""

    name: str
    """The key's name, or the address (IPv6: its /64) where no keys are configured; requests are counted by it."""
    owner: str | None
    """The owner of the jobs that the caller creates: the key's name, None where no keys are configured."""
    admin: bool
    """May read the jobs of all keys, and those without a key. Without keys, every caller may."""


class Keyring:
    """The keys of the gateway: their names and hashes."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        """`entries` as in PANELWORKS_API_KEYS: `name:sha256`, or `name:sha256:admin`.

        Raises:
            Misconfigured: `bad_api_keys`.
        """
        self._entries: list[tuple[bytes, Caller]] = []
        for entry in entries:
            name, _, rest = entry.partition(":")
            digest, _, role = rest.partition(":")
            known_role = rest == digest or role == ADMIN
            if not name or not known_role or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise Misconfigured(
                    "bad_api_keys",
                    "PANELWORKS_API_KEYS holds name:sha256 or name:sha256:admin entries;"
                    " make one by 'panelworks keys new'.",
                )
            self._entries.append((digest.encode(), Caller(name, name, admin=role == ADMIN)))
        self.names: Final = tuple(dict.fromkeys(caller.name for _, caller in self._entries))

    def __bool__(self) -> bool:
        return bool(self._entries)

    def caller(self, key: str) -> Caller | None:
        """The caller with this key; None for an unknown key. Both cases take equally long."""
        presented = hash_of(key).encode()
        found = None
        for digest, caller in self._entries:
            if hmac.compare_digest(presented, digest):
                found = caller
        return found

    def open_session(self, key: str) -> str | None:
        """A session of the browser that presented a key; None for an unknown key."""
        caller, presented = self.caller(key), hash_of(key).encode()
        return None if caller is None else sign_session(caller.name, presented)

    def caller_of_session(self, session: str) -> Caller | None:
        """The caller of a session; None if it has ended, or its key was removed."""
        name = name_in_session(session)
        known = (one for one in self._entries if one[1].name == name)
        return next((caller for digest, caller in known if is_signed(session, digest)), None)


def new_key() -> tuple[str, str]:
    """A key and the hash to configure. 256 random bits need no slow hash."""
    key = f"pw_{secrets.token_urlsafe(32)}"
    return key, hash_of(key)


def hash_of(key: str) -> str:
    """SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


class Access:
    """Accepts or refuses each call."""

    def __init__(self, settings: Settings) -> None:
        """Raises `Misconfigured`: `bad_api_keys`, `bad_rate_limit`."""
        self.keys = Keyring(settings.api_keys)
        self._origins = frozenset(settings.cors_origins)
        try:
            limit = parse(settings.rate_limit)
        except ValueError as error:
            raise Misconfigured(
                "bad_rate_limit", "PANELWORKS_RATE_LIMIT reads like 100/minute or 10/second."
            ) from error
        self._of_keys = MovingWindows(limit)
        self._of_addresses = MovingWindows(limit)

    def check(self, connection: HTTPConnection, *, with_session: bool = False) -> Caller:
        """The caller of a connection.

        Args:
            connection: The request.
            with_session: Accept a browser's session in a request that changes something; the caller of this method checks
                the token of its form. Requests that only read are accepted with a session in any case.

        Raises:
            Refused: `unauthorized`, `forbidden_origin`, `rate_limited`.
        """
        address = counted_address(connection.client.host if connection.client else None)
        self._refuse_foreign_pages(connection)
        anonymous = Caller(address, None, admin=True)
        caller = self._find_caller(connection, with_session) if self.keys else anonymous
        if caller is None:
            self._count(self._of_addresses, address)
            raise Refused("unauthorized", "This needs an API key, in the header X-API-Key.")
        self._count(self._of_keys if self.keys else self._of_addresses, caller.name)
        return caller

    def count_login(self, connection: HTTPConnection) -> None:
        """Count an attempt to sign in, which shows no key yet, by its address.

        Raises:
            Refused: `forbidden_origin`, `rate_limited`.
        """
        self._refuse_foreign_pages(connection)
        self._count(
            self._of_addresses, counted_address(connection.client.host if connection.client else None)
        )

    def count_link(self, connection: HTTPConnection) -> None:
        """Count a request with a signed link, which shows no key, by its address. Pages of all sites may show its picture.

        Raises:
            Refused: `rate_limited`.
        """
        self._count(
            self._of_addresses, counted_address(connection.client.host if connection.client else None)
        )

    def _find_caller(self, connection: HTTPConnection, with_session: bool) -> Caller | None:
        presented = _presented(connection)
        if presented:
            return self.keys.caller(presented)
        reads = connection.scope.get("method") in ("GET", "HEAD")
        return self.keys.caller_of_session(session_cookie(connection)) if reads or with_session else None

    def _count(self, windows: MovingWindows, caller: str) -> None:
        retry_after_seconds = windows.hit(caller)
        if retry_after_seconds is not None:
            refused = Refused("rate_limited", "Too many requests; try again later.")
            refused.retry_after_seconds = retry_after_seconds
            raise refused

    def _refuse_foreign_pages(self, connection: HTTPConnection) -> None:
        """A browser's page of another site must not use a gateway that trusts its own machine.

        Browsers send the page's site in Origin, and a name that an attacker points to this address (DNS rebinding) in Host.
        """
        host = connection.headers.get("host", "")
        origin = connection.headers.get("origin")
        if origin is not None:
            foreign = origin not in self._origins and not is_own_origin(origin, host)
        else:  # pictures, frames and simple GETs have no Origin, and cannot send a key either
            foreign = (
                not self.keys
                and is_foreign_subresource(connection.headers, connection.scope.get("method", "GET"))
                and _origin_of(connection.headers.get("referer", "")) not in self._origins
            )
        rebound = not self.keys and _hostname(host) not in LOOPBACK
        if foreign or rebound:
            raise Refused(
                "forbidden_origin", "Calls from this web page, or under this host name, are refused."
            )


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


def _origin_of(address: str) -> str:
    """The origin of a page's address. A page cannot set another one in its Referer."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}"


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class GuardedRoute(APIRoute):
    """A route that checks the caller before it reads the request's body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            access: Access = request.app.state.gateway.access
            request.state.caller = access.check(request)
            request = await check_request(request)
            try:
                return await handle(request)
            finally:
                drop_json(request)

        return check_and_handle


def caller_of(connection: HTTPConnection) -> Caller:
    """Dependency: the caller that `GuardedRoute` found."""
    caller: Caller = connection.state.caller
    return caller


def admin_of(connection: HTTPConnection) -> Caller:
    """Dependency: the caller of a route for admin keys.

    Raises:
        Refused: `admin_only`.
    """
    caller = caller_of(connection)
    if not caller.admin:
        raise Refused("admin_only", "This needs an admin key.")
    return caller


By = Annotated[Caller, Depends(caller_of)]
Admin = Annotated[Caller, Depends(admin_of)]


def check_address(host: str, settings: Settings) -> None:
    """Refuse an address that other machines can reach when no keys are configured.

    Raises:
        Misconfigured: `keys_needed`.
    """
    if host not in LOOPBACK and not settings.api_keys:
        raise Misconfigured(
            "keys_needed",
            f"Listening on {host} lets other machines call; set PANELWORKS_API_KEYS ('panelworks keys new NAME').",
        )
