"""Weight files: found, downloaded over a real HTTP server, resumed, and refused when they are not what they claim."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from panelworks.domain.cards import CARDS, ModelCard
from panelworks.errors import Misconfigured, Transient
from panelworks.models import weights
from panelworks.models.weights import download, installed_path, require_weights
from panelworks.settings import Settings
from tests.servers import QuietHandler, serving

CONTENT = bytes(range(256)) * 4000


def card(content: bytes = CONTENT, url: str | None = None) -> ModelCard:
    return ModelCard(
        name="test-net",
        file="test-net.pth",
        url=url,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        scale=2,
        architecture="compact",
        licence="MIT",
        attribution="tests",
        purpose="tests",
    )


class Server(QuietHandler):
    """Serves CONTENT with ranges; breaks off, fails or lies when the path says so."""

    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        wanted = self.headers.get("Range")
        Server.ranges.append(wanted)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/moody" and len(Server.ranges) == 1:
            self.send_error(503)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = (b"tampered" + CONTENT[8:] if self.path == "/tampered" else CONTENT)[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.path == "/breaking" and len(Server.ranges) == 1
        self.wfile.write(body[: len(body) // 3] if cut else body)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(2)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(weights, "_BACKOFF_SECONDS", 0.01)
    Server.ranges = []
    with serving(Server) as address:
        yield address


@pytest.mark.parametrize("path", ["/whole", "/breaking", "/moody"])
def test_a_download_ends_whole(path: str, server: str, tmp_path: Path) -> None:
    found = download(card(), server + path, tmp_path)
    assert found.read_bytes() == CONTENT
    assert {file.name for file in tmp_path.iterdir()} <= {"test-net.pth", "test-net.pth.lock"}


def test_a_broken_download_is_resumed_not_begun_again(server: str, tmp_path: Path) -> None:
    download(card(), server + "/breaking", tmp_path)
    assert Server.ranges[0] is None
    assert Server.ranges[1] is not None


def test_what_is_there_is_not_fetched(server: str, tmp_path: Path) -> None:
    (tmp_path / "test-net.pth").write_bytes(CONTENT)
    download(card(), server + "/whole", tmp_path)
    assert Server.ranges == []


def test_a_tampered_file_is_thrown_away(server: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        download(card(), server + "/tampered", tmp_path)
    assert caught.value.code == "weights_tampered"
    assert {file.name for file in tmp_path.iterdir()} <= {"test-net.pth.lock"}


def test_a_missing_file_and_a_missing_network_are_said_at_once(server: str, tmp_path: Path) -> None:
    for url in (server + "/missing", "http://127.0.0.1:9/net.pth"):
        with pytest.raises(Transient) as caught:
            download(card(), url, tmp_path)
        assert caught.value.code == "weights_unavailable"
        assert "MODEL_PATH" in caught.value.message


def test_model_path_comes_before_the_cache(tmp_path: Path, settings: Settings) -> None:
    mine, cached = tmp_path / "mine", settings.weights_dir
    for folder in (mine, cached):
        folder.mkdir(parents=True)
        (folder / "test-net.pth").write_bytes(CONTENT)
    assert installed_path(card(), settings) == cached / "test-net.pth"
    settings = settings.model_copy(update={"model_path": (mine,)})
    assert require_weights(card(), settings) == mine / "test-net.pth"


def test_a_file_with_the_wrong_content_is_not_used(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "test-net.pth").write_bytes(b"something else")
    assert installed_path(card(), settings.model_copy(update={"model_path": (tmp_path,)})) is None
    assert "SHA-256 differs" in caplog.text


def test_the_registry_is_complete() -> None:
    for known in CARDS.values():
        assert len(known.sha256) == (
            0 if known.name.startswith("aura-sr") or known.architecture == "metric" else 64
        )
        assert known.licence
        assert known.attribution
        assert known.purpose
        assert known.url is None or known.url.startswith("https://")
        assert all(part in CARDS for part in (*known.parts, *([known.partner] if known.partner else [])))


def test_the_real_file_has_the_registered_hash(assets: Path, settings: Settings) -> None:
    settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    assert installed_path(CARDS["realesr-animevideov3"], settings) is not None
