"""Books: throughput compared with the bare network, memory from page 10 to 500, and the time to skip finished books.

    python -m benchmarks.books [--pages 40] [--side 1024]

Each part runs in a separate process, on drawn pages.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil

ROOT = Path(__file__).parents[1]
_MEASURED_PAGES = (10, 50, 100, 200, 300, 400, 500)


def write_book(path: Path, pages: int, width: int, height: int, *, kinds: int | None = None) -> Path:
    """Write a CBZ of drawn JPEG pages; with `kinds`, only this number of different ones."""
    import io

    from training.drawings import draw_page

    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for seed in range(kinds or pages):
        buffer = io.BytesIO()
        draw_page((width, height), Random(seed), "colour").save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    with zipfile.ZipFile(path, "w") as book:
        for number in range(pages):
            book.writestr(f"{number:04d}.jpg", files[number % len(files)])
    return path


def throughput(folder: Path, pages: int, side: int) -> dict[str, float]:
    """Measure pages per second of the network only and of whole books, alternating."""
    from panelworks import pictures
    from panelworks.books.backfill import request_of
    from panelworks.books.direct import enhance_book_directly
    from panelworks.domain.books import BookOptions
    from panelworks.page.engine import get_engine
    from panelworks.page.planning import plan_for
    from panelworks.steps import Work, provider_named, take_inventory

    engine = get_engine()
    book = write_book(folder / "book.cbz", pages, side * 2 // 3, side)
    with zipfile.ZipFile(book) as archive:
        decoded = [
            pictures.decode(archive.read(name), engine.settings).picture for name in archive.namelist()
        ]
    size = (decoded[0].width * 2, decoded[0].height * 2)
    options = BookOptions().page.resolve(engine.settings)
    plan = plan_for(decoded[0].size, options, take_inventory(engine.settings, options.model))
    step = next(step for step in plan.steps if step.action == "upscale")
    bare, whole = 0.0, 0.0
    for turn in range(3):
        began = time.perf_counter()
        for picture in decoded:
            provider_named(step.provider).process(picture, step, Work(engine.settings, size))
        bare += (time.perf_counter() - began) * (turn > 0)
        request = request_of(
            str(book), str(folder / f"{turn}.cbz"), BookOptions(), engine.settings, "b", force=True
        )
        began = time.perf_counter()
        result = enhance_book_directly(request, engine)
        whole += (time.perf_counter() - began) * (turn > 0)
        assert result.status == "success", result  # noqa: S101 - figures of failed pages would be misleading
    return {
        "pages": pages,
        "megapixels": round(decoded[0].width * decoded[0].height / 1e6, 3),
        "network_pages_per_second": round(2 * pages / bare, 3),
        "book_pages_per_second": round(2 * pages / whole, 3),
        "share": round(bare / whole, 3),
    }


def memory(folder: Path) -> dict[str, float]:
    """Measure resident MiB during a book of 500 pages, by number of pages."""
    from panelworks.books.backfill import request_of
    from panelworks.books.direct import enhance_book_directly
    from panelworks.domain.books import BookOptions
    from panelworks.page.engine import get_engine

    engine, curve = get_engine(), dict[str, float]()
    book = write_book(folder / "book.cbz", 500, 320, 480)
    process = psutil.Process()

    def watch(done: int, count: int) -> None:
        if done in _MEASURED_PAGES:
            curve[str(done)] = round(process.memory_info().rss / 2**20, 1)

    request = request_of(str(book), str(folder / "out.cbz"), BookOptions(), engine.settings, "b", force=False)
    began = time.perf_counter()
    result = enhance_book_directly(request, engine, watch)
    return {**curve, "pages": result.pages, "seconds": round(time.perf_counter() - began, 1)}


def skipping(folder: Path) -> dict[str, float]:
    """Measure seconds to process 50 books with 10,000 pages of 20 kinds, and to skip them when they are finished."""
    shelf, out = folder / "shelf", folder / "out"
    book = write_book(shelf / "00.cbz", 200, 320, 480, kinds=20)
    for number in range(1, 50):
        (shelf / f"{number:02d}.cbz").write_bytes(book.read_bytes())
    command = [sys.executable, "-m", "panelworks", "backfill", str(shelf), "--out", str(out), "--direct"]
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
        seconds.append(round(time.perf_counter() - began, 2))
    return {"pages": 10_000, "first_seconds": seconds[0], "passed_by_seconds": seconds[1]}


def orchestration(folder: Path, pages: int) -> dict[str, float]:
    """Measure milliseconds that a flow adds to each page of a book, compared with direct calls."""
    from panelworks.books.backfill import request_of
    from panelworks.books.direct import enhance_book_directly
    from panelworks.domain.books import BookOptions
    from panelworks.page.engine import get_engine
    from service.prefect_server import apply_prefect_defaults

    apply_prefect_defaults()
    from flows.enhance_book import enhance_book

    engine = get_engine()
    book = write_book(folder / "book.cbz", pages, 320, 480)
    plain, flow = [], []
    for turn in range(3):
        request = request_of(
            str(book), str(folder / "d.cbz"), BookOptions(), engine.settings, "b", force=True
        )
        began = time.perf_counter()
        enhance_book_directly(request, engine)
        plain.append(time.perf_counter() - began)
        began = time.perf_counter()
        enhance_book(str(book), str(folder / "f.cbz"), force=True)
        flow.append(time.perf_counter() - began)
        del turn
    added = (min(flow) - min(plain)) / pages
    return {
        "pages": pages,
        "plain_seconds": round(min(plain), 2),
        "flow_seconds": round(min(flow), 2),
        "added_ms_a_page": round(1000 * added, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=40)
    parser.add_argument(
        "--side", type=int, default=1024, help="height of a page; the width is two thirds of it"
    )
    parser.add_argument(
        "--part",
        choices=["throughput", "memory", "passing", "orchestration"],
        help="run only this part, in this process",
    )
    args = parser.parse_args()
    if args.part is None:
        for part in ("throughput", "memory", "passing", "orchestration"):
            command = [sys.executable, "-m", "benchmarks.books", "--part", part]
            command += ["--pages", str(args.pages), "--side", str(args.side)]
            with tempfile.TemporaryDirectory(prefix="panelworks-bench-") as home:
                environment = dict(os.environ) | {
                    "PANELWORKS_CACHE_DIR": f"{home}/cache", "PREFECT_HOME": f"{home}/prefect", "LOG_LEVEL": "ERROR",
                    "PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
                }  # fmt: skip
                subprocess.run(command, check=True, cwd=ROOT, env=environment)  # noqa: S603 - our own command
        return
    with tempfile.TemporaryDirectory(prefix="panelworks-bench-") as place:
        folder = Path(place)
        parts: dict[str, Callable[[], dict[str, float]]] = {
            "throughput": lambda: throughput(folder, args.pages, args.side),
            "memory": lambda: memory(folder),
            "passing": lambda: skipping(folder),
            "orchestration": lambda: orchestration(folder, 60),
        }
        print(json.dumps({args.part: parts[args.part]()}))


if __name__ == "__main__":
    main()
