"""Time from the event of a generated panel to its run and to its delivery: one event at a time, and fifty at once.

It measures the warm worker and Prefect's process worker, on SQLite and on Postgres, each with its own stack, in sequence.
Pages are small, so that the time to start dominates:

    python -m benchmarks.burst --events 50 --databases sqlite postgres
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from service.emission import emit_generated
from service.prefect_server import ServerAccess
from tests.live.postgres import Postgres
from tests.pages import drawn
from tests.servers import free_port

_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class Timeline:
    """Seconds after the event."""

    running: float
    published: float


class Stack:
    """`panelworks up` with an empty database."""

    def __init__(self, folder: Path, database: str | None, *, warm: bool, pages: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        foreign = ("PREFECT_", "REDIS_", "S3_", "PANELWORKS_")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "PREFECT_HOME": str(folder / "prefect"),
            "PANELWORKS_CACHE_DIR": str(folder / "cache"),
            "PANELWORKS_OUT": str(folder / "out"),
            "PANELWORKS_SOURCE_ROOTS": str(folder),
            "DEVICE": "cpu",
            **({"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}),
        }
        gateway_port = free_port()
        self.gateway = f"http://127.0.0.1:{gateway_port}"
        command = [sys.executable, "-m", "panelworks", "up", "--port", str(self.port)]
        command += ["--gateway-port", str(gateway_port), "--pages", str(pages)]
        self._command = [*command, "--warm" if warm else "--plain"]
        self._made = 0
        self._auth = ""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        log = self.folder / "up.log"
        with log.open("w") as output:
            up = subprocess.Popen(self._command, env=self.environment, stdout=output, stderr=output)  # noqa: S603
        try:
            wait_until(lambda: "Ctrl-C stops" in log.read_text())
            time.sleep(8)  # until warm processes are ready
            self._auth = ServerAccess(self.folder / "cache").read() or ""
            with temporary_settings({PREFECT_API_URL: self.api, PREFECT_API_AUTH_STRING: self._auth}):
                yield
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait(90)

    def burst(self, events: int) -> list[Timeline]:
        """Emit events at once and return the timeline of each."""
        pages = [self.make_page() for _ in range(events)]
        jobs = [emit_generated(str(page))["job_id"] for page in pages]
        self.await_enhanced(jobs)
        return self._timelines(jobs)

    def await_enhanced(self, jobs: list[str]) -> None:
        """Wait until all jobs are enhanced."""
        wait_until(lambda: len(self._events_of("comic.panel.enhanced", jobs)) == len(jobs))

    @property
    def _basic(self) -> tuple[str, str]:
        user, _, password = self._auth.partition(":")
        return user, password

    def make_page(self) -> Path:
        """Write the file of a page that no earlier one equals."""
        self._made += 1
        path = self.folder / f"page-{self._made}.png"
        Image.fromarray(drawn(384, 512, seed=self._made).pixels).save(path)
        return path

    def _timelines(self, jobs: list[str]) -> list[Timeline]:
        generated = self._events_of("comic.panel.generated", jobs)
        done = self._events_of("comic.panel.enhanced", jobs)
        runs = {job: event["payload"]["flow_run_id"] for job, event in done.items()}
        return [
            Timeline(
                _seconds(generated[job]["occurred"], self._start_time(runs[job])),
                _seconds(generated[job]["occurred"], done[job]["occurred"]),
            )
            for job in jobs
        ]

    def _start_time(self, run_id: str) -> str:
        return str(self.request("GET", f"/flow_runs/{run_id}")["start_time"])

    def _events_of(self, event: str, jobs: list[str]) -> dict[str, Any]:
        """Events of a name, by their job."""
        body = {"filter": {"event": {"name": [event]}}, "limit": 50}
        page = self.request("POST", "/events/filter", body)
        found = list(page["events"])
        while page.get("next_page"):
            page = httpx.get(page["next_page"], timeout=30, auth=self._basic).raise_for_status().json()
            found += page["events"]
        return {one["payload"]["job_id"]: one for one in found if one["payload"]["job_id"] in jobs}

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the API. It is repeated after a 503, which a busy SQLite returns."""
        while True:
            answer = httpx.request(method, self.api + path, json=body, timeout=60, auth=self._basic)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer.raise_for_status().json()
            time.sleep(1)


def _seconds(begin: str, end: str) -> float:
    moments = [datetime.fromisoformat(one.replace("Z", "+00:00")) for one in (begin, end)]
    return (moments[1] - moments[0]).total_seconds()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it did not hold within ten minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(2)


def _quantiles(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{statistics.median(ordered):5.2f} / {ordered[int(0.95 * (len(ordered) - 1))]:5.2f}"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=50)
    parser.add_argument("--alone", type=int, default=10, help="events one at a time")
    parser.add_argument("--pages", type=int, default=2, help="pages in process at the same time")
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgres"], default=["sqlite"])
    parser.add_argument("--workers", nargs="+", choices=["process", "warm"], default=["process", "warm"])
    given = parser.parse_args()
    print(
        f"| database | worker | single: running | single: published | {given.events} at once: running | published | pages/s |"
    )
    print("|---|---|---|---|---|---|---|")
    for database in given.databases:
        for worker in given.workers:
            _measure(given, database, worker)
    print("\nSeconds after the event, p50 / p95.")


@contextlib.contextmanager
def running_stack(
    database: str, *, warm: bool, pages: int, environment: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Run a stack on an empty database, `sqlite` or `postgres`, in a folder of its own.

    `environment` has variables besides those of this process.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user
        postgres = Postgres(folder) if database == "postgres" else None
        if postgres:
            postgres.start()
            running.callback(postgres.stop)
        stack = Stack(folder, postgres.url if postgres else None, warm=warm, pages=pages)
        stack.environment |= environment or {}
        running.enter_context(stack.running())
        yield stack


def _measure(given: argparse.Namespace, database: str, worker: str) -> None:
    with running_stack(database, warm=worker == "warm", pages=given.pages) as stack:
        stack.burst(2 * given.pages)  # warm up
        single = [stack.burst(1)[0] for _ in range(given.alone)]
        together = stack.burst(given.events)
    spent = max(one.published for one in together)
    cells = [[one.running for one in single], [one.published for one in single]]
    cells += [[one.running for one in together], [one.published for one in together]]
    row = " | ".join(_quantiles(one) for one in cells)
    print(f"| {database} | {worker} | {row} | {len(together) / spent:.2f} |", flush=True)


if __name__ == "__main__":
    main()
