"""Books in a browser: the library, a contact sheet, its pages, the approval of a book, and a backfill."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from orchestration.events import BACKFILL_PROGRESS
from panelworks.books.backfill import request_of
from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookOptions, BookRequest, BookResult, PageDone, book_id
from panelworks.domain.options import EnhanceOptions
from panelworks.page.engine import Engine
from panelworks.settings import ReviewPolicy, Settings
from service.gateway import result_index
from service.gateway.result_index import MAX_WAIT_SECONDS, ResultIndex
from tests.books import page_file, write_book, write_zip
from tests.outcomes import outcome
from tests.servers import request_api
from tests.service.gateway.conftest import deploy, deploy_books
from tests.service.studio.conftest import KEYS, Open, opener, sign_in

Visit = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)>'&.cbz"
PREFECT_MILLISECONDS = 90_000
"""For a busy Prefect server to create a run."""


@pytest.fixture(autouse=True)
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists read the ledger at each request."""
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)


@pytest.fixture
def studio_with_prefect(settings: Settings, tmp_path: Path, prefect_server: None) -> Iterator[Open]:
    """A studio with a Prefect server that has all deployments, and no worker."""
    deploy()
    deploy_books()
    with ExitStack() as stack:
        yield opener(stack, settings, tmp_path)


def process(source: Path, settings: Settings, review: ReviewPolicy = "never") -> tuple[str, BookResult]:
    """Process a book of the library; returns its id and its result."""
    out = source.parent.parent / "done" / f"{source.stem}.cbz"
    options = BookOptions(page=EnhanceOptions(model="lanczos", review=review))
    request = request_of(str(source), str(out), options, settings, "run", force=False)
    return book_id(str(out)), enhance_book_directly(request, Engine(settings))


@pytest.fixture
def library(tmp_path: Path, settings: Settings) -> Path:
    """A book that waits for review and has a damaged page, one that is finished, and one with a hostile name."""
    folder = tmp_path / "library"
    folder.mkdir()
    entries = [(f"page {number}.png", page_file(number)) for number in range(1, 4)]
    entries[1] = ("page 2.png", b"no picture")
    process(write_zip(folder / "Doubtful.cbz", entries), settings, "doubtful")
    process(write_book(folder / "Finished.cbz", 2), settings)
    write_book(folder / HOSTILE, 1)
    return folder


def open_library(studio: Open, visit: Visit, library: Path, **options: object) -> Page:
    client = studio(library=str(library), library_out=str(library.parent / "done"))
    page = visit(client, **options)
    page.goto("/books")
    expect(page.get_by_text("not processed").last).to_be_visible()
    return page


def test_a_book_is_inspected_page_by_page_and_approved(
    studio: Open, visit: Visit, library: Path, tmp_path: Path
) -> None:
    page = open_library(studio, visit, library)
    names = page.locator(".grid .name")
    expect(names).to_have_text(["Doubtful.cbz", HOSTILE, "Finished.cbz"])
    page.get_by_role("link", name="Doubtful.cbz").click()
    expect(page.get_by_role("heading", name="Look at these pages 1")).to_be_visible()
    expect(page.locator(".panel.doubtful")).to_contain_text("2: page 2.png")
    page.get_by_role("link", name="1: page 1.png").click()
    expect(page.locator("[data-layer=first] img")).to_have_count(1)
    for picture in page.locator("[data-layer] img").all():
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    page.keyboard.press(" ")
    expect(page.locator("[data-side]")).to_have_text("right side")
    page.keyboard.press("ArrowRight")  # page 2 is no picture
    expect(page.get_by_role("heading", level=1)).to_have_text("page 3.png")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", level=1)).to_have_text("page 1.png")
    page.get_by_role("link", name="Doubtful.cbz").click()
    page.get_by_label("Comment").fill("page 2 was never a picture")
    page.get_by_role("button", name="Approve the whole book").click()
    expect(page.get_by_text("The book was approved and published.")).to_be_visible()
    expect(page.get_by_role("heading", name="Approved")).to_be_visible()
    expect(page.get_by_text("page 2 was never a picture")).to_be_visible()
    assert (tmp_path / "done" / "Doubtful.cbz").exists()
    expect(page.get_by_role("link", name="Books", exact=True).first).to_be_visible()


def test_without_scripts_books_are_read_and_rejected(
    studio: Open, visit: Visit, library: Path, tmp_path: Path
) -> None:
    page = open_library(studio, visit, library, java_script_enabled=False)
    page.get_by_role("link", name="Doubtful.cbz").click()
    page.get_by_role("link", name="1: page 1.png").click()
    expect(page.get_by_alt_text("The finished page")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Reject it: publish nothing").click()
    expect(page.get_by_text("The book was rejected; nothing was published.")).to_be_visible()
    assert not (tmp_path / "done" / "Doubtful.cbz").exists()
    page.goto("/books?state=rejected")
    expect(page.locator(".grid .name")).to_have_text(["Doubtful.cbz"])


def test_books_are_filtered_by_state_and_text(studio: Open, visit: Visit, library: Path) -> None:
    page = open_library(studio, visit, library)
    page.get_by_label("State").select_option("done")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".grid .name")).to_have_text(["Finished.cbz"])
    page.get_by_label("Search").fill("doubt")
    page.get_by_label("State").select_option("")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".grid .name")).to_have_text(["Doubtful.cbz"])
    page.get_by_label("Search").fill("nothing of this name")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No book matches.")).to_be_visible()


def test_a_ledger_of_ten_thousand_rows_is_paged_and_searched(
    studio: Open, visit: Visit, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of results is shown while the ledger is read, and loads itself again."""
    read_now, delays = ResultIndex._refresh, [MAX_WAIT_SECONDS + 2]

    def read_late(index: ResultIndex) -> None:
        time.sleep(delays.pop() if delays else 0)
        read_now(index)

    monkeypatch.setattr(ResultIndex, "_refresh", read_late)
    result_of_each = outcome()
    pages = [
        PageDone(index=index, name=f"page-{index:05}.png", state="enhanced", outcome=result_of_each)
        for index in range(10_000)
    ]
    request = BookRequest(source="/archive/Long.cbz", out="/out/Long.cbz", run_id="run")
    result = BookResult(source=request.source, out=request.out, status="success")
    Engine(settings).ledger.append_book(request, pages, result, settings)
    page = visit(studio(), ignore_problems=True)  # the book has no file
    page.goto("/results")
    expect(page.get_by_text("The ledger is still being read")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("Results 10,000")
    for _ in range(3):
        page.get_by_role("link", name="Older").click()
    expect(page.get_by_text("151–200 of 10,000")).to_be_visible()
    page.get_by_label("Search").fill("page-0777")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Results 10")
    page.goto("/books")
    page.get_by_role("link", name="Long.cbz").click()
    expect(page.locator(".sheet .panel")).to_have_count(400)
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("401–800 of 10,000 pages")).to_be_visible()


def test_a_key_without_rights_sees_no_books(studio: Open, visit: Visit, library: Path) -> None:
    page = visit(studio(library=str(library), api_keys=KEYS))
    sign_in(page)
    expect(page.get_by_role("link", name="Books")).to_have_count(0)
    for path in ("/books", "/backfills/new", "/studio/backfills"):
        page.goto(path)
        expect(page.get_by_role("alert")).to_have_text("This needs an admin key.")


def test_an_empty_library_says_what_to_do(studio: Open, visit: Visit) -> None:
    page = visit(studio(), ignore_problems=True)
    page.goto("/books")
    expect(page.get_by_text("set PANELWORKS_LIBRARY to the folder of your books")).to_be_visible()
    page.get_by_role("link", name="Start a backfill").first.click()
    page.get_by_label("Archive").fill("/etc")
    page.get_by_role("button", name="Estimate").click()
    expect(page.get_by_text("Local files can only be named below PANELWORKS_SOURCE_ROOTS.")).to_be_visible()
    expect(page.get_by_label("Archive")).to_have_value("/etc")


def test_a_backfill_is_estimated_started_and_cancelled(
    studio_with_prefect: Open, visit: Visit, library: Path
) -> None:
    page = open_library(studio_with_prefect, visit, library)
    page.get_by_role("link", name="Start a backfill").click()
    page.get_by_label("Network").select_option("lanczos")
    page.get_by_label("Height").fill("600")
    page.get_by_role("button", name="Estimate").click()
    expect(page.locator("#estimate")).to_contain_text("3 books to process (6 pages")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_text("Waiting for a worker.")).to_be_visible(timeout=PREFECT_MILLISECONDS)
    run = request_api("GET", f"/flow_runs/{page.url.rpartition('/')[2]}")
    assert run["parameters"]["options"] == {"page": {"model": "lanczos"}, "height": 600}
    page.get_by_role("link", name="Books").first.click()
    page.locator("#backfills").get_by_role("link", name="library").click()
    running = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
    request_api("POST", f"/flow_runs/{run['id']}/set_state", running)
    expect(page.get_by_text("No book has ended yet")).to_be_visible()
    shown = {"key": "progress", "type": "progress", "data": 33.3, "description": "1 of 3 books"}
    request_api("POST", "/artifacts/", shown | {"flow_run_id": run["id"]})
    announce_progress(run["id"])
    expect(page.get_by_text("1 of 3 books · 33 %")).to_be_visible()
    page.get_by_role("link", name="Books").first.click()
    expect(page.locator("#backfills").get_by_text("1 of 3 books")).to_be_visible()
    page.locator("#backfills").get_by_role("link", name="library").click()
    page.get_by_role("button", name="Start no further book").click()
    expect(page.get_by_text("Stopping.")).to_be_visible()
    cancelled = {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True}
    request_api("POST", f"/flow_runs/{run['id']}/set_state", cancelled)
    expect(page.get_by_text("cancelled", exact=True)).to_be_visible()
    page.get_by_role("link", name="Start it again for what is left").click()
    expect(page.get_by_label("Network")).to_have_value("lanczos")
    expect(page.get_by_label("Height")).to_have_value("600")
    page.goto("/books?state=done")
    page.get_by_role("link", name="Finished.cbz").click()
    page.get_by_role("link", name="Process again").click()
    expect(page.get_by_label("Finished books go to")).to_have_value(
        str(library.parent / "done" / "Finished.cbz")
    )
    expect(page.get_by_label("Network")).to_have_value("lanczos")
    expect(page.get_by_label("even if they are finished")).to_be_checked()


def announce_progress(run_id: str) -> None:
    """Emit the event that the run of a backfill emits after it has updated its progress."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": BACKFILL_PROGRESS,
        "resource": {"prefect.resource.id": f"comic.flow-run.{run_id}"},
        "payload": {"flow_run_id": run_id},
    }
    request_api("POST", "/events", [event])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_pages_of_books_are_accessible_and_fit_the_screen(
    studio: Open, visit: Visit, library: Path, scheme: str, width: int
) -> None:
    page = open_library(studio, visit, library, color_scheme=scheme, viewport={"width": width, "height": 800})
    page.get_by_role("link", name="Doubtful.cbz").click()
    book = page.url
    for path in ("/books", book, f"{book}/pages/0", "/backfills/new"):
        page.goto(path)
        page.wait_for_load_state("load")
        violations = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"
