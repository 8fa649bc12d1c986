"""Missing weights: downloaded for the page that needs them, shown in its result, and tried again after a failure."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from panelworks.domain.cards import CARDS
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import PageRequest
from panelworks.domain.result import IngestedPage, PageResult
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from tests.networks import random_compact, stand_in
from tests.pages import write_page
from tests.servers import QuietHandler, serving

NETWORK = "realesr-animevideov3"


class WeightServer(QuietHandler):
    """Serves one file; the first `failures` requests are answered 404."""

    content: ClassVar[bytes] = b""
    failures: ClassVar[int] = 0
    requests: ClassVar[int] = 0

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        WeightServer.requests += 1
        if WeightServer.requests <= WeightServer.failures:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small network in the place of the 4x one, published on loopback; the file itself is no installed weights."""
    (tmp_path / "published").mkdir()
    file = random_compact(tmp_path / "published" / "net.pth", scale=4)
    stand_in(monkeypatch, NETWORK, file)
    WeightServer.content, WeightServer.failures, WeightServer.requests = file.read_bytes(), 0, 0
    with serving(WeightServer) as address:
        card = CARDS[NETWORK].model_copy(update={"url": f"{address}/net.pth"})
        monkeypatch.setitem(CARDS, NETWORK, card)
        yield file


def request(folder: Path, job_id: str, *, force: bool = False) -> PageRequest:
    page = folder / "page.png"
    if not page.exists():
        write_page(page)
    options = EnhanceOptions(scale=4.0, model=NETWORK)
    return PageRequest(source=str(page), out=str(folder / "out"), options=options, job_id=job_id, force=force)


def downloads(result: PageResult) -> list[str]:
    return [note for note in result.notes if note.startswith("downloaded the weights of")]


def worker(settings: Settings, cache: Path, *model_path: Path) -> Engine:
    return Engine(settings.model_copy(update={"cache_dir": cache, "model_path": model_path}))


def test_after_a_failed_download_the_next_page_gets_the_same_plan_and_key(
    published: Path, tmp_path: Path, settings: Settings
) -> None:
    WeightServer.failures = 1
    first = worker(settings, tmp_path / "first")
    second = worker(settings, tmp_path / "second", published.parent)
    planned: list[IngestedPage] = [first.identify(request(tmp_path, "0"))]

    failed = enhance_directly(request(tmp_path, "1"), first)
    assert failed.error is not None
    assert failed.error.code == "weights_unavailable"
    planned.append(first.identify(request(tmp_path, "0")))

    result = enhance_directly(request(tmp_path, "2"), first)
    assert result.error is None, result.error
    planned += [first.identify(request(tmp_path, "0")), second.identify(request(tmp_path, "0"))]
    assert {page.content_key for page in planned} == {result.content_key}
    assert all(page.plan == planned[0].plan for page in planned)
    assert planned[0].plan.model == NETWORK
    assert WeightServer.requests == 2


def test_the_result_shows_a_download_once(published: Path, tmp_path: Path, settings: Settings) -> None:
    engine = worker(settings, tmp_path / "first")
    shown = enhance_directly(request(tmp_path, "1"), engine)
    assert len(downloads(shown)) == 1
    assert NETWORK in downloads(shown)[0]
    cached = enhance_directly(request(tmp_path, "2"), engine)
    assert cached.cached
    assert downloads(cached) == []
    again = enhance_directly(request(tmp_path, "3", force=True), engine)
    installed = enhance_directly(
        request(tmp_path, "4"), worker(settings, tmp_path / "second", published.parent)
    )
    assert downloads(again) == downloads(installed) == []
    assert (
        again.notes == installed.notes == tuple(note for note in shown.notes if note not in downloads(shown))
    )
    assert shown.content_key == installed.content_key
    assert WeightServer.requests == 1
