"""What a page costs by event, by HTTP and in a book: CPU time by process, events by name, API requests by route.

The pages have 384 x 512 pixels; the stack has a warm worker. Processes are found by their command lines, so that no other
stack may run on the machine. Requests are counted in the access log of the server, which
is off in operation:

    python -m benchmarks.page_cost --pages 20 --databases sqlite postgres
"""

import argparse
import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import httpx
import psutil

from benchmarks.burst import Stack, running_stack, wait_until
from service.emission import emit_generated

PROCESSES: Final = {
    "server": "panelworks server",
    "worker": "prefect worker start",
    "page process": "deployments.warm.child",
    "gateway": "panelworks gateway",
    "supervisor": "panelworks supervise",
    "database": "postgres",
}
"""Names of processes, and words of their command lines."""
ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}")
REQUEST: Final = re.compile(r'"([A-Z]+) (/api[^ ?]*)[^ ]* HTTP/1.1" (\d+)')
SETTLE_SECONDS: Final = 6.0
"""Time for the server's services to write the last events and task runs."""


@dataclass
class Cost:
    """What the pages of one way cost, in sum."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    database_bytes: int = 0
    wall_seconds: float = 0.0


class Meter:
    """Reads the counters of a running stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._log = stack.folder / "cache" / "logs" / "server.log"

    @contextmanager
    def measuring(self) -> Iterator[Cost]:
        """Measure what happens in a block, and what the services do with it afterwards."""
        cost, cpu, size = Cost(), self._cpu_seconds(), self._database_bytes()
        offset, since, began = self._log.stat().st_size, datetime.now(UTC), time.monotonic()
        yield cost
        cost.wall_seconds = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        cost.cpu_seconds = {name: value - cpu[name] for name, value in self._cpu_seconds().items()}
        cost.database_bytes = self._database_bytes() - size
        with self._log.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode(errors="replace")
        for method, path, status in REQUEST.findall(lines):
            suffix = "" if status.startswith("2") else f" {status}"
            cost.requests[f"{method} {ID.sub('ID', path)}{suffix}"] += 1
        body = {"filter": {"occurred": {"since": since.isoformat()}}}
        for row in self._stack.request("POST", "/events/count-by/event", body):
            cost.events[row["value"]] += row["count"]

    def _cpu_seconds(self) -> dict[str, float]:
        found = dict.fromkeys(PROCESSES, 0.0)
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                times = process.cpu_times()
            except psutil.Error:
                continue
            name = next((name for name, words in PROCESSES.items() if words in command), None)
            if name is not None:
                found[name] += times.user + times.system
        return found

    def _database_bytes(self) -> int:
        folders = (self._stack.folder / "prefect", self._stack.folder / "postgres")
        return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def by_event(stack: Stack, pages: int) -> None:
    """Emit an event for each page."""
    stack.await_enhanced([emit_generated(str(stack.make_page()))["job_id"] for _ in range(pages)])


def by_http(stack: Stack, pages: int) -> None:
    """Upload each page to the gateway."""
    jobs = []
    for _ in range(pages):
        page = stack.make_page()
        answer = httpx.post(
            f"{stack.gateway}/api/enhancement/process",
            files={"file": (page.name, page.read_bytes())},
            timeout=60,
        )
        jobs.append(answer.raise_for_status().json()["job_id"])
    stack.await_enhanced(jobs)


def in_a_book(stack: Stack, pages: int) -> None:
    """Enhance a book of the pages."""
    path = stack.folder / "book.cbz"
    with zipfile.ZipFile(path, "w") as book:
        for _ in range(pages):
            page = stack.make_page()
            book.write(page, page.name)
    deployment = stack.request("GET", "/deployments/name/enhance-book/enhance-book")
    parameters = {"source": str(path), "out": str(stack.folder / "out" / "book.cbz")}
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    run = stack.request("POST", f"/deployments/{deployment['id']}/create_flow_run", body)["id"]
    wait_until(lambda: stack.request("GET", f"/flow_runs/{run}")["state_type"] == "COMPLETED")


WAYS: Final[dict[str, Callable[[Stack, int], None]]] = {
    "event": by_event,
    "HTTP": by_http,
    "book": in_a_book,
}


def measure(database: str, pages: int) -> dict[str, Cost]:
    """Measure all ways with one stack; returns the costs by way."""
    access_log = {"PREFECT_SERVER_LOGGING_LEVEL": "INFO"}
    costs = {}
    with running_stack(database, warm=True, pages=2, environment=access_log) as stack:
        by_event(stack, 6)  # warm up
        time.sleep(SETTLE_SECONDS)
        for way, process in WAYS.items():
            with Meter(stack).measuring() as costs[way]:
                process(stack, pages)
    return costs


def print_costs(database: str, costs: dict[str, Cost], pages: int) -> None:
    """Print the tables of a database, for one page."""
    print(f"\n## {database}: CPU seconds for one page, mean of {pages}\n")
    print("| | pages/s | " + " | ".join(PROCESSES) + " | events | requests | database KiB |")
    print("|---|" + "---|" * (len(PROCESSES) + 4))
    for way, cost in costs.items():
        cells = [f"{cost.cpu_seconds[name] / pages:.3f}" for name in PROCESSES]
        counts = [f"{sum(counter.values()) / pages:.1f}" for counter in (cost.events, cost.requests)]
        size = f"{cost.database_bytes / pages / 1024:.1f}"
        print(f"| {way} | {pages / cost.wall_seconds:.2f} | " + " | ".join([*cells, *counts, size]) + " |")
    for title, counters in (
        ("events", {way: cost.events for way, cost in costs.items()}),
        ("requests", {way: cost.requests for way, cost in costs.items()}),
    ):
        print(f"\n| {title} for one page | " + " | ".join(counters) + " |")
        print("|---|" + "---|" * len(counters))
        names = Counter[str]()
        for counter in counters.values():
            names.update(counter)
        for name, _ in names.most_common():
            values = [f"{counter[name] / pages:.2f}" for counter in counters.values()]
            if any(float(value) >= 0.05 for value in values):
                print(f"| `{name}` | " + " | ".join(values) + " |")


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--databases", nargs="+", choices=["sqlite", "postgres"], default=["sqlite"])
    given = parser.parse_args()
    for database in given.databases:
        print_costs(database, measure(database, given.pages), given.pages)


if __name__ == "__main__":
    main()
