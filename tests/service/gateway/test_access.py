"""Who may call the gateway."""

import logging
from pathlib import Path

import pytest
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from panelworks.errors import Misconfigured
from panelworks.settings import Settings
from service.gateway import middleware
from service.gateway.access import Caller, Keyring, check_address, hash_of, new_key
from service.gateway.schemas import GeneratedEvent
from tests.servers import until
from tests.service.gateway.conftest import Open


def test_keys_are_hashed_and_told_apart() -> None:
    key, digest = new_key()
    ring = Keyring((f"reader:{digest}", f"studio:{hash_of('other')}", f"root:{hash_of('root')}:admin"))
    assert [ring.caller(one) for one in (key, "other", "root", "wrong", "")] == [
        Caller("reader", "reader", admin=False),
        Caller("studio", "studio", admin=False),
        Caller("root", "root", admin=True),
        None,
        None,
    ]
    assert ring.names == ("reader", "studio", "root")
    assert key not in digest
    assert new_key()[0] != key


@pytest.mark.parametrize(
    "entry",
    [
        "reader",
        "reader:",
        ":" + "a" * 64,
        "reader:plain-key",
        "reader:" + "A" * 64,
        f"reader:{'a' * 64}:",
        f"r:{'a' * 64}:root",
    ],
)
def test_entries_that_are_no_hashes_are_refused(entry: str) -> None:
    with pytest.raises(Misconfigured, match="keys new"):
        Keyring((entry,))


def test_with_keys_a_key_is_needed(gateway: Open) -> None:
    key, digest = new_key()
    client = gateway(api_keys=(f"reader:{digest}:admin",))
    for headers in (
        {},
        {"X-API-Key": "wrong"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {key}"},
    ):
        answer = client.get("/metrics", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"
    assert client.get("/metrics", headers={"X-API-Key": key}).status_code == 200
    assert client.get("/metrics", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert client.get("/api/health").status_code == 503, "open, and the server is unavailable here"
    socket = f"ws://127.0.0.1:{client.base_url.port}/api/enhancement/progress/x"
    with pytest.raises(InvalidStatus) as refused, connect(socket):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/api/enhancement",
        "/api/batches",
        "/api/batches/x",
        "/api/enhancement/status/x",
        "/api/enhancement/x/variants/high",
        "/metrics",
    ],
)
def test_every_door_asks_for_the_key(gateway: Open, path: str) -> None:
    client = gateway(api_keys=(f"reader:{hash_of('key')}",))
    assert client.get(path).status_code == 401
    for post in (
        "enhancement/process",
        "enhancement/x/re-enhance",
        "images/upload",
        "images/upload/batch",
        "pages",
        "generation/events",
    ):
        assert client.post(f"/api/{post}", json={"source": "data:,x"}).status_code == 401, post
        broken = client.post(f"/api/{post}", content=b"{", headers={"content-type": "application/json"})
        assert broken.status_code == 401, f"{post} asks for the key before it reads the body"
    assert client.delete("/api/enhancement/x").status_code == 401


def test_a_key_has_its_rate(gateway: Open) -> None:
    one, other = new_key(), new_key()
    client = gateway(api_keys=(f"one:{one[1]}:admin", f"other:{other[1]}:admin"), rate_limit="3/minute")
    answers = [client.get("/metrics", headers={"X-API-Key": one[0]}).status_code for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    assert client.get("/metrics", headers={"X-API-Key": other[0]}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8200", "Host": "localhost:8200"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost:8200"}, 200),
    ],
)
def test_web_pages_of_others_cannot_use_an_open_gateway(
    gateway: Open, headers: dict[str, str], status: int
) -> None:
    assert gateway().get("/metrics", headers=headers).status_code == status


def test_cors_is_closed_unless_opened(gateway: Open) -> None:
    request = {"Origin": "https://reader.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in gateway().options("/api/pages", headers=request).headers
    opened = gateway(cors_origins=("https://reader.example",)).options("/api/pages", headers=request)
    assert opened.headers["access-control-allow-origin"] == "https://reader.example"


def test_without_keys_only_this_machine_is_listened_to(settings: Settings) -> None:
    check_address("127.0.0.1", settings)
    with pytest.raises(Misconfigured, match="PANELWORKS_API_KEYS"):
        check_address("0.0.0.0", settings)  # noqa: S104 - what is refused
    check_address("0.0.0.0", settings.model_copy(update={"api_keys": ("a:b",)}))  # noqa: S104 - with a key


def test_nothing_inside_is_told(gateway: Open, tmp_path: Path) -> None:
    client = gateway(store=str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way of the store")
    answer = client.post("/api/enhancement/process", json={"source": "data:image/png;base64," + _PIXEL})
    assert answer.status_code == 500
    assert str(tmp_path) not in answer.text
    assert "Traceback" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@pytest.mark.parametrize(
    "origin",
    [
        "http://[",
        "http://[::1",
        "null",
        "//127.0.0.1",
        "foo://127.0.0.1",
        "http://127.0.0.1:99999",
        "http://evil.example",
    ],
)
def test_odd_origins_are_refused(gateway: Open, origin: str) -> None:
    """Before, `http://[` was a 500 with a traceback, without a key and without a limit."""
    client = gateway()
    answer = client.get("/api/enhancement", headers={"Origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden_origin")
    address = f"ws://127.0.0.1:{client.base_url.port}/api/enhancement/progress/x"
    with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers={"Origin": origin}):
        pass
    assert refused.value.response.status_code == 403


def test_a_path_is_one_line_of_the_log(
    gateway: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger of the test's own: servers of other tests configure those of the gateway.
    own = logging.getLogger("tests.middleware")
    monkeypatch.setattr(middleware, "logger", own)
    client = gateway()
    with caplog.at_level("INFO", logger=own.name):
        client.get("/api/x%0aCRITICAL%20forged%0d%1b[31m")
        # The line is written after the answer was sent.
        until(lambda: any(record.name == own.name for record in caplog.records))
    (line,) = [record.getMessage() for record in caplog.records if record.name == own.name]
    assert "forged" in line
    assert not set("\n\r\x1b") & set(line)


@pytest.mark.parametrize(
    ("job_id", "accepted"),
    [
        (".", False),
        ("..", False),
        ("...", True),
        (".a", True),
        ("..a", True),
        ("...a.", True),
        ("a..", True),
        ("a b", False),
    ],
)
def test_job_ids_have_an_address(job_id: str, accepted: bool) -> None:
    request = {"source": "https://example.com/a.png", "job_id": job_id}
    if accepted:
        assert GeneratedEvent.model_validate(request).job_id == job_id
    else:
        with pytest.raises(ValidationError):
            GeneratedEvent.model_validate(request)


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)])
def test_only_a_trusted_proxy_names_the_client(gateway: Open, trusted: tuple[str, ...]) -> None:
    """Before, any process of this machine chose the address that its requests were counted by."""
    client = gateway(rate_limit="2/hour", trusted_proxies=trusted)
    answers = [
        client.get("/api/enhancement/status/x", headers={"X-Forwarded-For": f"10.0.0.{number}"})
        for number in range(3)
    ]
    assert (answers[-1].status_code == 429) is not bool(trusted)


def test_a_refused_caller_learns_when_the_next_request_is_accepted(gateway: Open) -> None:
    """Before, it was 10 seconds whatever the limit."""
    client = gateway(rate_limit="1/hour")
    answers = [client.get("/api/enhancement/status/x") for _ in range(2)]
    assert answers[1].status_code == 429
    assert 3000 < int(answers[1].headers["Retry-After"]) <= 3600


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, True),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, False),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False),
    ],
)
def test_a_foreign_page_loads_nothing_of_an_open_gateway(
    gateway: Open, headers: dict[str, str], refused: bool
) -> None:
    """Before, it showed delivered pages as pictures, learnt which jobs exist, and used up the limit of requests."""
    client = gateway(rate_limit="10/hour")
    codes = [
        client.get("/api/enhancement/x/variants/high", headers=headers).json()["error"]["code"]
        for _ in range(12)
    ]
    assert (set(codes) == {"forbidden_origin"}) is refused


@pytest.mark.parametrize(
    ("referer", "code"),
    [
        ("https://viewer.example/comics?page=3", "unknown_job"),
        ("https://viewer.example.evil.example/", "forbidden_origin"),
        ("http://viewer.example/", "forbidden_origin"),
        ("http://[", "forbidden_origin"),
        (None, "forbidden_origin"),
    ],
)
def test_an_open_gateway_shows_pictures_on_the_pages_that_may_call_it(
    gateway: Open, referer: str | None, code: str
) -> None:
    """Before, PANELWORKS_CORS_ORIGINS opened an open gateway's pictures to every page."""
    client = gateway(cors_origins=("https://viewer.example",))
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    headers |= {"Referer": referer} if referer else {}
    answer = client.get("/api/enhancement/x/variants/high", headers=headers)
    assert answer.json()["error"]["code"] == code


def test_one_ipv6_line_is_one_caller(gateway: Open) -> None:
    """Before, each of the 2^64 addresses of a line had a limit of its own."""
    client = gateway(rate_limit="2/hour", trusted_proxies=("127.0.0.1",))
    answers = [
        client.get("/api/enhancement/status/x", headers={"X-Forwarded-For": f"2001:db8::{number}"})
        for number in range(1, 4)
    ]
    assert answers[-1].status_code == 429
    other = client.get("/api/enhancement/status/x", headers={"X-Forwarded-For": "2001:db8:0:1::1"})
    assert other.status_code != 429
