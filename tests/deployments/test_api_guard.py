"""Access to Prefect's API by host, origin and type of body: the middleware alone, and a real server."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from deployments.api_guard import ApiGuard
from tests import servers
from tests.deployments import server
from tests.servers import request_api

PROXY = "https://prefect.example"
JSON = {"content-type": "application/json", "content-length": "2"}


async def nothing(*_: Any) -> Any:
    """An app that must not be called."""


def status(method: str, headers: dict[str, str], kind: str = "http") -> int | None:
    guard = ApiGuard(nothing, hosts=["prefect.example", "server"], origins=[PROXY])
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": kind, "method": method, "path": "/api/automations/", "headers": raw}
    refusal = guard.refusal(scope)
    return refusal.status if refusal else None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:4200", None),
        ("localhost:4200", None),
        ("LOCALHOST", None),
        ("[::1]:4200", None),
        ("server:4200", None),
        ("prefect.example", None),
        ("prefect.example.", None),
        ("evil.example:4200", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example@127.0.0.1", 421),
        ("127.0.0.1/evil.example", 421),
        ("192.168.1.5:4200", 421),
        ("127.0.0.1:port", 421),
        ("", 421),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_hosts(host: str, expected: int | None, kind: str) -> None:
    assert status("GET", {"host": host}, kind) == expected


def test_a_request_names_exactly_one_host() -> None:
    assert status("GET", {}) == 421
    hosts = [(b"host", b"localhost"), (b"host", b"evil.example")]
    refusal = ApiGuard(nothing).refusal({"type": "http", "method": "GET", "path": "/", "headers": hosts})
    assert refusal is not None and refusal.status == 421


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:4200", "http://127.0.0.1:4200", None),
        ("127.0.0.1:4200", "http://localhost:4200", None),
        ("prefect.example", PROXY, None),
        ("prefect.example", "http://prefect.example:80", None),
        ("127.0.0.1:4200", PROXY, None),  # a proxy that calls by address
        ("127.0.0.1:4200", "http://localhost:3000", 403),
        ("127.0.0.1:4200", "http://127.0.0.1", 403),
        ("127.0.0.1:4200", "https://evil.example", 403),
        ("127.0.0.1:4200", "http://evil.example:4200", 403),
        ("127.0.0.1:4200", "null", 403),
        ("127.0.0.1:4200", "", 403),
        ("127.0.0.1:4200", "file://", 403),
        ("127.0.0.1:4200", "chrome-extension://127.0.0.1:4200", 403),
        ("prefect.example", "http://localhost:443", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PATCH", "DELETE"])
def test_origins(method: str, host: str, origin: str, expected: int | None) -> None:
    assert status(method, {"host": host, "origin": origin}) == expected
    assert status(method, {"host": host, "origin": origin}, "websocket") == expected


@pytest.mark.parametrize(
    ("site", "mode", "expected"),
    [
        ("cross-site", "no-cors", 403),
        ("same-site", "no-cors", 403),
        ("cross-site", "navigate", None),
        ("same-origin", "cors", None),
        ("none", "navigate", None),
    ],
)
def test_subresources_of_other_sites(site: str, mode: str, expected: int | None) -> None:
    headers = {"host": "localhost", "sec-fetch-site": site, "sec-fetch-mode": mode}
    assert status("GET", headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"content-length": "0"}, None),
        ({"content-length": "0", "content-type": "application/x-www-form-urlencoded"}, None),
        (JSON, None),
        ({**JSON, "content-type": "Application/JSON; charset=utf-8"}, None),
        ({**JSON, "content-type": "text/plain"}, 415),
        ({**JSON, "content-type": "text/plain; application/json"}, 415),
        ({**JSON, "content-type": "application/x-www-form-urlencoded"}, 415),
        ({**JSON, "content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-length": "2"}, 415),
        ({"transfer-encoding": "chunked"}, 415),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_bodies(method: str, headers: dict[str, str], expected: int | None) -> None:
    assert status(method, {"host": "localhost", **headers}) == expected


@pytest.fixture
def api(prefect_server: None) -> str:
    """A real server."""
    return str(PREFECT_API_URL.value())


BASIC = {"Authorization": "Basic " + base64.b64encode(servers.AUTH.encode()).decode()}
AUTOMATION = {
    "name": "foreign",
    "trigger": {"type": "event", "posture": "Reactive", "expect": ["comic.panel.generated"], "threshold": 1},
    "actions": [
        {"type": "run-deployment", "source": "inferred", "job_variables": {"command": "touch /tmp/foreign"}}
    ],
}
PAGE = {"Origin": "https://evil.example", "Referer": "https://evil.example/"}


@pytest.mark.parametrize("login", [{}, BASIC], ids=["without-login", "with-login"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({**PAGE, "Content-Type": "text/plain"}, 403),
        ({**PAGE, "Content-Type": "application/x-www-form-urlencoded"}, 403),
        ({**PAGE, "Content-Type": "application/json"}, 403),
        ({"Origin": "null", "Content-Type": "text/plain"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Host": "evil.example", "Content-Type": "application/json"}, 421),
    ],
)
def test_a_foreign_page_creates_no_automation(
    api: str, headers: dict[str, str], login: dict[str, str], expected: int
) -> None:
    answer = httpx.post(f"{api}/automations/", content=json.dumps(AUTOMATION), headers={**headers, **login})
    assert answer.status_code == expected
    assert answer.json()["exception_message"].endswith(".")
    assert "access-control-allow-origin" not in answer.headers
    found = request_api("POST", "/automations/filter", {})
    assert AUTOMATION["name"] not in [one["name"] for one in found]


def test_dns_rebinding_reads_nothing(api: str) -> None:
    for path in ("/flows/count", "/health", "/../", "/../ui-settings"):
        answer = httpx.get(f"{api}{path}", headers={"Host": "rebound.example:4200", **BASIC})
        assert answer.status_code == 421


def test_requests_without_the_auth_string_are_refused(api: str) -> None:
    assert httpx.post(f"{api}/automations/", json=AUTOMATION).status_code == 401
    assert httpx.get(f"{api}/health").status_code == 200


@pytest.mark.parametrize("path", ["/events/in", "/events/out", "/logs/out"])
@pytest.mark.parametrize("headers", [PAGE, {"Origin": "null"}])
def test_foreign_pages_open_no_websocket(api: str, path: str, headers: dict[str, str]) -> None:
    address = api.replace("http", "ws") + path
    with pytest.raises(InvalidStatus, match="403"):
        connect(address, additional_headers={**headers, **BASIC}, subprotocols=["prefect"])  # type: ignore[list-item]


@pytest.mark.parametrize("token", ["", "panelworks:guessed"])
def test_websockets_demand_the_auth_string(api: str, token: str) -> None:
    address = api.replace("http", "ws") + "/events/out"
    with connect(address, subprotocols=["prefect"]) as socket, pytest.raises(ConnectionClosed):  # type: ignore[list-item]
        socket.send(json.dumps({"type": "auth", "token": token}))
        socket.recv(10)


def test_its_own_page_and_prefect_clients_are_accepted(api: str) -> None:
    own = {"Origin": api.removesuffix("/api"), **BASIC}
    request_api("POST", "/flows/filter", {}, headers=own)
    server.call_prefect(lambda client: client.read_flows())
    address = api.replace("http", "ws") + "/events/out"
    with connect(address, subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "auth", "token": servers.AUTH}))
        assert json.loads(socket.recv(10))["type"] == "auth_success"


@pytest.mark.parametrize(
    ("method", "kind", "expected"),
    [("GET", "document", None), ("GET", "iframe", 403), ("GET", "embed", 403), ("DELETE", "document", 403)],
)
def test_other_sites_may_only_navigate_to_it(method: str, kind: str, expected: int | None) -> None:
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": kind}
    assert status(method, {"host": "127.0.0.1:4200", **foreign}) == expected


def test_other_sites_cannot_show_it_in_a_frame() -> None:
    sent: list[Message] = []

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def keep(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"127.0.0.1")]}
    asyncio.run(ApiGuard(page)(scope, nothing, keep))
    headers = dict(sent[0]["headers"])
    assert headers[b"x-frame-options"] == b"SAMEORIGIN"
    assert headers[b"content-security-policy"] == b"frame-ancestors 'self'"
    assert headers[b"a"] == b"b"


def test_a_worker_that_disconnects_while_it_connects_is_no_error() -> None:
    """Prefect closes its channel when the worker is already gone; the log had a traceback for it."""

    async def close(scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        await socket.close(1008)

    async def gone(message: Message) -> None:
        if message["type"] == "websocket.close":
            raise ClientDisconnected

    async def connection() -> Message:
        return {"type": "websocket.connect"}

    scope: Scope = {"type": "websocket", "path": "/api/", "headers": [(b"host", b"localhost:4200")]}
    asyncio.run(ApiGuard(close)(scope, connection, gone))
