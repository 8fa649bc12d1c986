"""The pages of a book on a real server that answers 503 for a while, as a busy SQLite database does."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from orchestration import book_pages
from orchestration.book_pages import TaskPages
from panelworks.books.pages import ingest_page
from panelworks.domain.books import BookRequest, PageDone
from panelworks.errors import Transient
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from tasks.enhance_book_page import enhance_book_page
from tests.live.flaky import FlakyProxy
from tests.pages import write_page


@contextmanager
def refusing(proxy: FlakyProxy, seconds: float) -> Iterator[None]:
    """The server answers 503 for a while, until the end of the block at most."""
    back = threading.Timer(seconds, proxy.down.clear)
    proxy.down.set()
    back.start()
    try:
        yield
    finally:
        back.cancel()
        proxy.down.clear()


def first_page_during_outage(seconds: float, source: Path) -> PageDone:
    """A page of a book that starts when the server refuses to answer."""

    @flow(name="a-book", validate_parameters=False)
    def a_book(proxy: FlakyProxy) -> PageDone:
        engine = get_engine()
        todo = ingest_page(
            engine, 0, source.name, source.read_bytes(), BookRequest(source=source.name, out="")
        )
        with TaskPages("a book", enhance_book_page) as pages:
            with refusing(proxy, seconds):
                pending = pages.submit(todo, force=False)
            return pending.result()

    # The device's slot is requested by the client of the run, which keeps its address.
    with FlakyProxy(str(PREFECT_API_URL.value()).removesuffix("/api")) as proxy:
        through = {PREFECT_API_URL: f"{proxy.address}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
        with temporary_settings(through):
            return a_book(proxy)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A limit of the device that the server knows, and short retry delays."""
    name = f"gpu:{request.node.name}"
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", name)
    monkeypatch.setattr(book_pages, "RETRY_DELAYS_SECONDS", [0.5, 1])
    get_settings.cache_clear()
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))


@pytest.mark.usefixtures("limited")
def test_a_book_retries_an_unavailable_server(tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.png", 120, 160, seed=3)
    assert first_page_during_outage(1, page).error is None


@pytest.mark.usefixtures("limited")
def test_a_server_that_stays_unavailable_fails_the_book(tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.png", 120, 160, seed=3)
    with pytest.raises(Transient, match="became unavailable"):
        first_page_during_outage(60, page)
