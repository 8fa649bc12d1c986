"""Make the pictures of docs/how-to/studio.md: all pages of the studio, in both colour schemes and on a phone.

Run it beside a stack without API keys that was started for it, since it processes the sample pages and approves none:
`PANELWORKS_LIBRARY=/tmp/books panelworks up` with an empty folder, then `python examples/studio_screenshots.py`. Needs Chromium
(`make servers`).
"""

import argparse
import io
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import typer
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT: Final = Path(__file__).resolve().parents[1]
SAMPLES: Final = sorted((ROOT / "examples" / "pages").glob("*.png"))
OUT: Final = ROOT / "docs" / "images" / "studio"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
SCREENS: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 380, "height": 820}, "has_touch": True},
}
LIVE: Final = ("queue", "books")
"""Pages whose live rows keep a connection open."""
MAX_WAIT_SECONDS: Final = 300
PICTURE_QUALITY: Final = 80


def process(client: httpx.Client, page: Path, wait_seconds: int = MAX_WAIT_SECONDS, **options: str) -> str:
    """Have a page processed and wait for its end; returns its job id."""
    with page.open("rb") as file:
        answer = client.post(
            f"/api/enhancement/process?wait={wait_seconds}",
            files={"file": (page.name, file)},
            data={"comic_id": "sample", "review": "always", **options},
        )
    answer.raise_for_status()
    return str(answer.json()["job_id"])


def addresses(client: httpx.Client) -> Iterator[tuple[str, str]]:
    """Process the sample pages; yield the name and the address of each page of the studio."""
    jobs = [process(client, page) for page in SAMPLES]
    other = process(client, SAMPLES[0], model="lanczos")
    yield "queue", "/"
    yield "review", "/results?review=pending"
    yield "page", f"/pages/{jobs[0]}?review=pending"
    yield "again", f"/pages/{jobs[0]}/again"
    yield "against", f"/pages/{other}/against?other={jobs[0]}"
    yield "compare", f"/pages/{jobs[0]}/compared?jobs={other}&selected=lanczos&jobs={jobs[0]}&selected=auto"
    yield "results", "/results"
    book = process_book(client, SAMPLES)
    yield "books", "/books"
    yield "book", f"/books/{book}"
    yield "book-page", f"/books/{book}/pages/0"
    yield "backfill", "/backfills/new"
    yield "system", "/system"


def process_book(client: httpx.Client, samples: list[Path]) -> str:
    """Bind the sample pages in the library and have the book processed; returns its id when it waits for review."""
    library = client.get("/api/books").json()["library"]
    if library is None:
        raise typer.BadParameter("Start the stack with PANELWORKS_LIBRARY.")
    with zipfile.ZipFile(Path(library) / "Sample book.cbz", "w") as book:
        for page in samples:
            book.write(page, page.name)
        book.writestr("damaged.png", b"no picture")
    client.post("/api/backfills", json={"options": {"page": {"review": "always"}}}).raise_for_status()
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while time.monotonic() < deadline:
        waiting = client.get("/api/books?state=review&text=Sample book").json()["books"]
        if waiting:
            return str(waiting[0]["book_id"])
        time.sleep(1)
    raise TimeoutError("the sample book was not processed")


def prepare(page: Page, name: str, client: httpx.Client) -> None:
    """Wait until a page shows what it is about."""
    if name == "queue":
        for sample in SAMPLES:
            process(client, sample, wait_seconds=0, scale="4", force="true")
        page.locator("#queue .thumb img").first.wait_for(timeout=1000 * MAX_WAIT_SECONDS)
    if name == "again":
        page.get_by_role("button", name="Preview").click()
        page.locator("#preview img").nth(1).wait_for(timeout=1000 * MAX_WAIT_SECONDS)
    if name in ("page", "against", "book-page"):
        page.locator("[data-layer=second] img").first.wait_for()
    if name == "system":
        page.get_by_role("heading", name="Workers").wait_for()
    page.wait_for_load_state("load" if name in LIVE else "networkidle")
    time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8200", help="Address of the gateway.")
    parser.add_argument("--out", type=Path, default=OUT, help="Folder of the pictures.")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    browser_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with (
        httpx.Client(base_url=given.url, timeout=MAX_WAIT_SECONDS + 30) as client,
        sync_playwright() as playwright,
    ):
        pages = list(addresses(client))
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for screen, options in SCREENS.items():
            page = browser.new_context(base_url=given.url, **options).new_page()
            for name, address in pages:
                page.goto(address)
                prepare(page, name, client)
                picture = Image.open(io.BytesIO(page.screenshot()))
                path = given.out / f"{name}-{screen}.webp"
                picture.save(path, quality=PICTURE_QUALITY, method=6)
                typer.echo(path)
        browser.close()


if __name__ == "__main__":
    main()
