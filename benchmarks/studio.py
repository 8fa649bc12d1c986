"""The studio with a large ledger: the first paint of each page, the list of results, live rows, and 50 open pages.

    python -m benchmarks.studio [--rows 10000]

A gateway runs in a process of its own, beside a Prefect server. Rows are those of small pages that were not computed.
"""

import argparse
import contextvars
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import psutil
from playwright.sync_api import sync_playwright
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from orchestration.events import BACKFILL_PROGRESS, PROGRESS
from panelworks.accounting.ledger import Ledger
from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookOptions, BookRequest, PageDone, book_id
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import get_engine
from panelworks.storage.local import LocalFolder
from tests.books import write_book
from tests.outcomes import outcome
from tests.pages import write_page
from tests.servers import free_port, prefect_server, request_api, until
from tests.service.gateway.conftest import deploy, deploy_books

_OPEN_PAGES: Final = 50
_WATCHED_SECONDS: Final = 20.0
_REPEATS: Final = 5
_PATHS: Final = (
    "/", "/results", "/results?text=page-77", "/results?review=pending", "/pages/shown", "/pages/shown/again",
    "/pages/shown/against?other=other", "/pages/shown/compare", "/pages/shown/compared?jobs=shown&jobs=other", "/system",
    "/books", "/books/{book}", "/books/{book}/pages/0", "/backfills/new",
)  # fmt: skip
_EVENTS: Final = 20
_BOOKS: Final = 20
_PAGES_OF_A_BOOK: Final = 100
_UNPROCESSED_BOOKS: Final = 1000
_BACKFILL_EVENT_SECONDS: Final = 1.0
"""Between two events of a backfill that runs."""
_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the ledger")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        os.environ.update(
            PANELWORKS_CACHE_DIR=str(folder / "cache"),
            PANELWORKS_OUT=str(folder / "out"),
            PANELWORKS_LIBRARY=str(folder / "library"),
        )
        fill_ledger(folder, args.rows - _BOOKS * _PAGES_OF_A_BOOK)
        book = fill_library(folder)
        stack.enter_context(prefect_server(folder))
        address, process = stack.enter_context(serving())
        measure_list(address, args.rows)
        measure_paint(address, book)
        deploy()
        deploy_books()
        measure_live_rows(address)
        backfill = measure_live_backfill(address)
        measure_open_pages(address, process, backfill)


def fill_ledger(folder: Path, rows: int) -> None:
    """Have one page enhanced in two ways, and write rows of others."""
    page = write_page(folder / "page.png", 620, 880)
    for job_id, options in (("shown", EnhanceOptions()), ("other", EnhanceOptions(model="lanczos"))):
        enhance_directly(
            PageRequest(source=str(page), out=str(folder / "out"), job_id=job_id, options=options)
        )
    ledger = Ledger(LocalFolder(folder / "cache" / "ledger"))
    for number in range(rows - 2):
        origin = Origin(tool=f"tool-{number % 5}", comic_id=f"comic-{number % 40}")
        request = PageRequest(source=f"/page-{number}.png", out="/out", job_id=f"job-{number}", origin=origin)
        ledger.append(request, PageResult(job_id=request.job_id, status="success", route="upscaled"))


def fill_library(folder: Path) -> str:
    """Have one book processed, write rows of others and empty files; returns the id of the first."""
    engine = get_engine()
    options = BookOptions(page=EnhanceOptions(model="lanczos"))
    out = str(folder / "out" / "books" / "real.cbz")
    source = write_book(folder / "library" / "real.cbz", _PAGES_OF_A_BOOK)
    result = enhance_book_directly(BookRequest(source=str(source), out=out, options=options), engine)
    result_of_each = outcome()
    pages = [
        PageDone(index=index, name=f"{index}.png", state="enhanced", outcome=result_of_each)
        for index in range(_PAGES_OF_A_BOOK)
    ]
    for number in range(_BOOKS - 1):
        request = BookRequest(source=f"/archive/{number}.cbz", out=f"/out/{number}.cbz", run_id="run")
        engine.ledger.append_book(request, pages, result, engine.settings)
    for number in range(_UNPROCESSED_BOOKS):
        (folder / "library" / f"{number}.cbz").touch()
    return book_id(out)


@contextmanager
def serving() -> Iterator[tuple[str, psutil.Process]]:
    """A gateway with the studio as a process."""
    port = free_port()
    environment = os.environ | {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_API_AUTH_STRING": str(PREFECT_API_AUTH_STRING.value()),
        "PANELWORKS_RATE_LIMIT": "1000000/minute",
        "LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "panelworks", "gateway", "--port", str(port)]
    process = subprocess.Popen(command, env=environment)  # noqa: S603 - our own command
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(address))
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/system", timeout=5).is_success
    except httpx.HTTPError:
        return False


def measure_list(address: str, rows: int) -> None:
    """Print how long the ledger is read, and the seconds of a list once it is."""
    began = time.monotonic()
    while not (answer := httpx.get(f"{address}/api/results", timeout=60).json())["complete"]:
        time.sleep(0.5)
    print(f"{answer['total']} rows read in {time.monotonic() - began:.1f} s")
    spent = []
    for number in range(4 * _REPEATS):
        began = time.monotonic()
        httpx.get(f"{address}/api/results?text=page-{number}&offset={number}", timeout=60).raise_for_status()
        spent.append(time.monotonic() - began)
    print(
        f"list of results with {rows} rows: median {1000 * statistics.median(spent):.0f} ms, largest {1000 * max(spent):.0f} ms"
    )


def measure_paint(address: str, book: str) -> None:
    """Print the first paint of each page in Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(base_url=address)
        for path in (path.format(book=book) for path in _PATHS):
            paints = []
            for _ in range(_REPEATS):
                page.goto(path)
                until(lambda: page.evaluate(_PAINT) is not None)
                paints.append(float(page.evaluate(_PAINT)))
            print(f"first paint of {path}: median {statistics.median(paints):.0f} ms")
        browser.close()


def measure_live_rows(address: str) -> None:
    """Print the seconds from the answer to an event of progress until the queue shows it in Chromium."""
    run = _start_run("enhance-page/enhance-page", {"source": "/live.png", "job_id": "live"})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(base_url=address)
        page.goto("/")
        row = page.locator("#queue .row", has_text="live")
        row.wait_for(timeout=60_000)
        spent = []
        for number in range(1, _EVENTS + 1):
            request_api("POST", "/events", [_progress_event(run, number)])
            began = time.monotonic()
            row.get_by_text(f"{number} %").wait_for(timeout=60_000)
            spent.append(time.monotonic() - began)
        browser.close()
    print(f"event to screen: median {statistics.median(spent):.2f} s, largest {max(spent):.2f} s")


def measure_live_backfill(address: str) -> "Backfilling":
    """Print the seconds from the answer to an event of a backfill until the list of books shows it in Chromium."""
    backfill = Backfilling()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(base_url=address)
        page.goto("/books")
        spent = []
        for _ in range(_EVENTS):
            text = backfill.advance()
            began = time.monotonic()
            page.locator("#backfills").get_by_text(text).wait_for(timeout=60_000)
            spent.append(time.monotonic() - began)
        browser.close()
    print(
        f"event of a backfill to screen: median {statistics.median(spent):.2f} s, largest {max(spent):.2f} s"
    )
    return backfill


class Backfilling:
    """A run of a backfill that no worker executes: its progress and its events are created here."""

    def __init__(self) -> None:
        self._run = _start_run("backfill/backfill", {"archive": "/archive", "out": "/out"})
        shown = {"key": "progress", "type": "progress", "data": 0, "flow_run_id": self._run}
        self._artifact = request_api("POST", "/artifacts/", shown)["id"]
        self._ended = 0

    def advance(self) -> str:
        """One more book ends; returns the text of the progress."""
        self._ended += 1
        text = f"{self._ended} of 1000 books"
        shown = {"data": self._ended / 10, "description": text}
        request_api("PATCH", f"/artifacts/{self._artifact}", shown)
        event = {
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": BACKFILL_PROGRESS,
            "resource": {"prefect.resource.id": f"comic.flow-run.{self._run}"},
            "payload": {"flow_run_id": self._run, "percent": self._ended / 10, "description": text},
        }
        request_api("POST", "/events", [event])
        return text


def _start_run(deployment: str, parameters: dict[str, str]) -> str:
    found = request_api("GET", f"/deployments/name/{deployment}")["id"]
    run = request_api("POST", f"/deployments/{found}/create_flow_run", {"parameters": parameters})["id"]
    running = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
    request_api("POST", f"/flow_runs/{run}/set_state", running)
    return str(run)


def _progress_event(run_id: str, percent: int) -> dict[str, object]:
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": PROGRESS,
        "resource": {"prefect.resource.id": "comic.job.live", "comic.job-id": "live"},
        "payload": {
            "job_id": "live",
            "owner": None,
            "flow_run_id": run_id,
            "stage": "enhance",
            "stage_percent": percent,
            "percent": percent,
        },
    }


def measure_open_pages(address: str, process: psutil.Process, backfill: Backfilling) -> None:
    """Print the share of a core that the gateway uses without, and with 50 open queues or lists of backfills."""
    _print_share("no open page", process)
    with _following(f"{address}/studio/queue"):
        _print_share(f"{_OPEN_PAGES} open pages", process)
    with _following(f"{address}/studio/backfills/events"):
        _print_share(f"{_OPEN_PAGES} open lists of backfills", process)
        ended = threading.Event()
        # Prefect's address is in the context, which a thread does not inherit.
        advance = contextvars.copy_context().run
        advancing = threading.Thread(target=advance, args=(_advance, backfill, ended))
        advancing.start()
        _print_share(f"{_OPEN_PAGES} open lists of backfills, one event a second", process)
        ended.set()
        advancing.join()


def _advance(backfill: Backfilling, ended: threading.Event) -> None:
    while not ended.wait(_BACKFILL_EVENT_SECONDS):
        backfill.advance()


@contextmanager
def _following(address: str) -> Iterator[None]:
    """Have 50 connections read server-sent events."""
    ended = threading.Event()
    threads = [threading.Thread(target=_follow, args=(address, ended)) for _ in range(_OPEN_PAGES)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    yield
    ended.set()
    for thread in threads:
        thread.join()


def _follow(address: str, ended: threading.Event) -> None:
    with httpx.stream("GET", address, timeout=60) as answer:
        for _ in answer.iter_raw():
            if ended.is_set():
                return


def _print_share(label: str, process: psutil.Process) -> None:
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(_WATCHED_SECONDS)
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    print(f"{label}: {spent / (time.monotonic() - began):.1%} of a core")


if __name__ == "__main__":
    main()
