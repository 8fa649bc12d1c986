"""Pages per second by number of workers, and the load on server and database.

Everything runs on this machine: Postgres, Redis, Prefect's API and services, the workers with one book each. Only
the network is replaced: it takes a fixed time and no CPU:

    python -m benchmarks.fleet --workers 1 2 4 8 16 --pages 10000 --seconds 0.25
    python -m benchmarks.fleet --workers 8 --pages 2000 --server-workers 2
    python -m benchmarks.fleet --workers 16 --pages 3000 --set PREFECT_LOGGING_TO_API_ENABLED=false
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.fleet.archive import write_archive
from benchmarks.fleet.meter import Census, census, cpu_seconds, rate, resident_bytes
from benchmarks.fleet.site import Role, Site

_SERVER: tuple[Role, ...] = ("api", "services")
_HEAD = (
    "| workers | pages | min | pages/s | of N devices | CPU ms a page: API | services | Postgres | Redis | workers"
    " | cores in use | server MiB | database KB a page |"
)


def main() -> None:
    """Measure and print a table. The growth of the database's tables is printed on standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument(
        "--pages", type=int, default=10_000, help="maximum number of pages; fewer for few workers"
    )
    parser.add_argument("--each", type=int, default=1250, help="maximum number of pages per worker")
    parser.add_argument("--book", type=int, default=100, help="pages of a book")
    parser.add_argument("--seconds", type=float, default=0.25, help="seconds of the device for each page")
    parser.add_argument(
        "--stand-in", choices=["page", "network"], default="page", help="what is replaced by a fixed time"
    )
    parser.add_argument("--server-workers", type=int, default=1, help="processes of Prefect's API")
    parser.add_argument("--warm", action="store_true", help="workers whose processes stay between books")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of all processes"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all processes are stopped
    chosen = dict(one.split("=", 1) for one in given.set)
    print(f"{given.seconds} s a {given.stand_in}, {given.book} pages a book {' '.join(given.set)}\n")
    print(_HEAD + "\n|" + "---|" * 13, flush=True)
    for workers in given.workers:
        pages = min(given.pages, given.each * workers)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)  # Postgres runs as another user
            _measure(Site(folder, given.stand_in, given.seconds, chosen), workers, pages, given)


def _measure(site: Site, workers: int, pages: int, given: argparse.Namespace) -> None:
    archive, warm = site.folder / "archive", site.folder / "warm"
    for folder in (archive, warm):
        folder.mkdir()
    write_archive(archive, pages, given.book, seed=1)
    write_archive(warm, 5 * workers, 5, seed=2)
    try:
        site.open(given.server_workers)
        site.work(workers, warm=given.warm)
        site.backfill(warm, 2 * workers)  # warm up
        before, spent = census(site.postgres.url), _cpu(site)
        began = time.monotonic()
        site.backfill(archive, min(100, 2 * workers))
        took = time.monotonic() - began
        spent = {name: value - spent[name] for name, value in _cpu(site).items()}
        time.sleep(10)  # until batches are written
        after = census(site.postgres.url)
        _print_row(site, workers, pages, took, rate(site.postgres.url), given.seconds, spent, before, after)
    finally:
        site.close()


def _cpu(site: Site) -> dict[str, float]:
    own = {role: cpu_seconds(site.pids(role)) for role in (*_SERVER, "worker")}
    return own | {"postgres": cpu_seconds([site.postgres.pid]), "redis": cpu_seconds([site.redis.pid])}


def _print_row(
    site: Site, workers: int, pages: int, took: float, speed: float, seconds: float, spent: dict[str, float],
    before: Census, after: Census,
) -> None:  # fmt: skip
    share = speed * seconds / workers
    order = ("api", "services", "postgres", "redis", "worker")
    each = " | ".join(f"{1000 * spent[name] / pages:.1f}" for name in order)
    memory = resident_bytes([pid for role in _SERVER for pid in site.pids(role)]) / 2**20
    grown = (after.bytes - before.bytes) / pages / 1000
    print(
        f"| {workers} | {pages} | {took / 60:.1f} | {speed:.2f} | {share:.0%} | {each}"
        f" | {sum(spent.values()) / took:.2f} | {memory:.0f} | {grown:.1f} |",
        flush=True,
    )
    growth = (
        f"{name} {(after.rows[name] - before.rows[name]) / pages:.2f}"
        f" / {(after.tables[name] - before.tables[name]) / pages / 1000:.2f}"
        for name in after.tables
    )
    print("    rows / KB a page: " + ", ".join(growth), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
