"""What events and HTTP requests may name: the table."""

import http.server
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import EntryPoint, Origin, PageRequest
from panelworks.errors import PanelworksError, UnsafeSource
from panelworks.page.engine import Engine
from panelworks.page.entry_points import admit
from panelworks.settings import Settings, get_settings
from panelworks.sources import addresses
from tests.pages import write_page
from tests.servers import QuietHandler, serving

PATHS = [
    "/etc/passwd",
    "../../etc/passwd",
    "~/.ssh/id_rsa",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file://localhost/etc/passwd",
    "file:/etc/passwd",
    "/proc/self/environ",
    "C:\\Windows\\win.ini",
]
SCHEMES = ["ftp://example.com/a.png", "gopher://127.0.0.1/", "S3://pages/a.png", "HTTPS:/etc/passwd"]
METADATA = [
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",  # decimal
    "0xA9FEA9FE",  # hexadecimal
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",  # octal
    "0251.254.0xa9.254",  # mixed
    "169.254.43518",  # three parts
    "169.16689662",  # two parts
    "[::ffff:169.254.169.254]",  # IPv4-mapped
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::169.254.169.254]",  # IPv4-compatible
    "[64:ff9b::169.254.169.254]",  # NAT64
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",  # local-use NAT64
    "[2002:a9fe:a9fe::]",  # 6to4
    "[2001:0:a9fe:a9fe:0:0:0:0]",  # Teredo
    "[::ffff:0:a9fe:a9fe]",  # IPv4-translated
    "[fe80::a9fe:a9fe]",
    "[fd00:ec2::254]",  # the IPv6 address of the metadata service
    "１６９.254.169.254",  # full-width digits
    "169。254。169。254",  # ideographic full stops
    "user@169.254.169.254",
    "example.com@169.254.169.254",
    "169.254.169.254:443",
    "127.0.0.1",
    "127.1",
    "0",
    "localhost",
    "[::1]",
    "[::]",
    "10.0.0.1",
    "192.168.0.1",
    "100.100.100.200",  # Alibaba's metadata service, in the CGNAT range
]


def request(source: str, entry_point: EntryPoint = "http", **more: Any) -> PageRequest:
    return PageRequest(
        source=source,
        out=more.pop("out", "enhanced"),
        job_id="job",
        origin=Origin(entry_point=entry_point),
        **more,
    )


@pytest.mark.parametrize("entry_point", ["http", "event"])
@pytest.mark.parametrize("source", PATHS)
def test_local_files_are_not_read(source: str, entry_point: EntryPoint, engine: Engine) -> None:
    with pytest.raises(UnsafeSource) as caught:
        engine.ingest(request(source, entry_point))
    assert caught.value.code in ("forbidden_path", "forbidden_scheme")


@pytest.mark.parametrize("source", SCHEMES)
def test_other_schemes_are_not_read(source: str, engine: Engine) -> None:
    with pytest.raises(PanelworksError) as caught:
        engine.ingest(request(source))
    assert caught.value.code in ("forbidden_scheme", "forbidden_bucket", "bad_address")


@pytest.mark.parametrize(
    ("key", "open_to_all"),
    [
        ("scans/a.png", True),
        ("kept-scans/a.png", True),
        ("kept/objects/ab/cd.png", False),
        ("/kept//objects/ab/cd.png", False),
        ("scans/../kept/objects/ab/cd.png", False),
        ("rows/2026.parquet", False),
    ],
)
def test_store_and_ledger_in_an_open_bucket_are_not_named(
    key: str, open_to_all: bool, settings: Settings
) -> None:
    """The store holds the uploads and results of all API keys."""
    settings = settings.model_copy(
        update={"s3_bucket": "pages", "store": "s3://pages/kept", "ledger": "s3://pages/rows"}
    )
    for source, out in ((f"s3://pages/{key}", "s3://pages"), ("data:,", f"s3://pages/{key}")):
        named = request(source, out=out)
        if open_to_all:
            admit(named, settings)
            continue
        with pytest.raises(UnsafeSource) as caught:
            admit(named, settings)
        assert caught.value.code == "forbidden_bucket"


def test_the_cache_folder_below_an_open_folder_is_not_named(tmp_path: Path, settings: Settings) -> None:
    settings = settings.model_copy(update={"source_roots": (tmp_path,), "cache_dir": tmp_path / "cache"})
    admit(request(str(tmp_path / "a.png")), settings)
    with pytest.raises(UnsafeSource):
        admit(request(str(tmp_path / "cache" / "store" / "a.png")), settings)


@pytest.mark.parametrize("host", METADATA)
def test_inner_addresses_are_not_fetched(host: str, engine: Engine) -> None:
    with pytest.raises(PanelworksError) as caught:
        engine.ingest(request(f"https://{host}/latest/meta-data/"))
    assert caught.value.code in ("forbidden_address", "bad_address", "unknown_host")
    assert not isinstance(caught.value, UnsafeSource) or caught.value.code == "forbidden_address"


def test_a_redirect_to_a_private_address_is_not_followed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address counts as public here; the second is checked by the real rules."""

    class Redirect(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.end_headers()

    real = addresses.is_public
    loopback_is_public: Callable[[addresses.IPAddress], bool] = lambda a: str(a) == "127.0.0.1" or real(a)  # noqa: E731
    monkeypatch.setattr(addresses, "is_public", loopback_is_public)
    monkeypatch.setenv("PANELWORKS_ALLOW_HTTP", "true")
    get_settings.cache_clear()
    with serving(Redirect) as address, pytest.raises(UnsafeSource) as caught:
        Engine(get_settings()).ingest(request(address))
    assert caught.value.code == "forbidden_address"


def test_a_name_that_changes_its_address_is_connected_as_it_was_checked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is a public address, later ones are private. The name is resolved only once."""
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])
    resolved: list[str] = []

    def rebinding(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        resolved.append(host)
        return [(2, 1, 6, "", (next(answers) if host == "rebind.example" else host, port))]

    def refuse(self: http.server.BaseHTTPRequestHandler) -> None:
        raise AssertionError("the inner server was reached")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setenv("PANELWORKS_FETCH_TIMEOUT_SECONDS", "0.5")
    get_settings.cache_clear()
    inner = type("Inner", (QuietHandler,), {"do_GET": refuse})
    with serving(inner), pytest.raises(PanelworksError) as caught:
        Engine(get_settings()).ingest(request("https://rebind.example/a.png"))
    assert caught.value.code == "unreachable"
    assert resolved.count("rebind.example") == 1


def test_only_listed_buckets_are_read(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    monkeypatch.setenv("PANELWORKS_S3_BUCKETS", "second, third")
    get_settings.cache_clear()
    settings = get_settings()
    for allowed in (bucket, "second", "third"):
        admit(request(f"s3://{allowed}/a.png", out=f"s3://{allowed}/out"), settings)
    for source in ("s3://other/a.png", f"s3://{bucket}.other/a.png", "s3:///a.png"):
        with pytest.raises(UnsafeSource, match="allow-list"):
            admit(request(source), settings)
    with pytest.raises(UnsafeSource, match="allow-list"):
        admit(request("data:,x", out="s3://other/out"), settings)


def test_local_files_below_the_roots_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "shelf"
    inside.mkdir()
    page = write_page(inside / "page.png")
    outside = write_page(tmp_path / "secret.png")
    (inside / "link.png").symlink_to(outside)
    monkeypatch.setenv("PANELWORKS_SOURCE_ROOTS", f"/nowhere:{inside}")
    get_settings.cache_clear()
    engine = Engine(get_settings())
    assert engine.ingest(request(str(page), "event")).source.width == 160
    assert engine.ingest(request(page.as_uri(), "event")).source.width == 160
    for source in (outside, inside / "link.png", f"{inside}/../secret.png", f"{inside}-other/page.png"):
        with pytest.raises(UnsafeSource):
            engine.ingest(request(str(source), "event"))
    assert engine.ingest(request(str(outside), "operator")).source.width == 160


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"out": "/etc"}, "forbidden_out"),
        ({"out": "s3://elsewhere"}, "forbidden_bucket"),
        ({"options": EnhanceOptions(model="/tmp/evil.pth")}, "forbidden_model"),  # noqa: S108 - a name only
    ],
)
def test_places_and_weight_files_are_not_named(more: dict[str, Any], code: str, settings: Settings) -> None:
    with pytest.raises(UnsafeSource) as caught:
        admit(request("data:,x", **more), settings)
    assert caught.value.code == code
    admit(request("data:,x", "operator", **more), settings)
