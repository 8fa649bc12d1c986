"""A backfill across workers: a warm worker and a process worker of one machine share the book runs."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deployments.names import worker_name
from tests.books import names_in, write_book
from tests.live.stack import PROCESS_WORKER, Stack
from tests.servers import until

BOOKS = 6
MAX_WAITING = 3


def workers_of(stack: Stack, backfill: str) -> set[str]:
    """The names of the workers that took books of a backfill so far."""
    books = {"flow_runs": {"tags": {"all_": [f"backfill:{backfill}"]}}}
    taken = (
        run["labels"].get("prefect.worker.name") for run in stack.ask("POST", "/flow_runs/filter", books)
    )
    return {worker for worker in taken if worker}


def start_backfill(stack: Stack, parameters: dict[str, Any]) -> str:
    """Start a backfill whose first book the process worker takes: the warm worker, which is faster, is suspended.

    The process worker executes two runs, the backfill and one book, so that the next books are for the warm worker.
    """
    warm = stack.part("worker")
    warm.suspend()
    try:
        run = stack.deploy_run("backfill/backfill", parameters)
        until(lambda: workers_of(stack, run) == {PROCESS_WORKER})
    finally:
        warm.resume()
    return run


def warnings_of(stack: Stack, run: str) -> list[str]:
    """The warnings of a run. They name the reasons why books failed."""
    logged = {"flow_run_id": {"any_": [run]}, "level": {"ge_": logging.WARNING}}
    return [entry["message"] for entry in stack.ask("POST", "/logs/filter", {"logs": logged})]


@pytest.mark.timeout(600)
def test_two_workers_share_six_books(stack: Stack, tmp_path: Path) -> None:
    shelf, out = tmp_path / "shelf", tmp_path / "out"
    for number in range(BOOKS):
        write_book(shelf / f"Series {number % 3}" / f"Vol {number}.cbz", 2, first_seed=100 + 2 * number)
    with stack.process_worker():
        run = start_backfill(stack, {"archive": str(shelf), "out": str(out), "at_most_waiting": MAX_WAITING})

        def done() -> bool:
            waiting = stack.ask(
                "POST",
                "/flow_runs/count",
                {
                    "flow_runs": {
                        "tags": {"all_": [f"backfill:{run}"]},
                        "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}},
                    }
                },
            )
            assert waiting <= MAX_WAITING
            return stack.run(run)["state_type"] in ("COMPLETED", "FAILED", "CRASHED")

        until(done, timeout_seconds=420)
    assert stack.run(run)["state_type"] == "COMPLETED"
    warnings = warnings_of(stack, run)
    assert workers_of(stack, run) == {PROCESS_WORKER, worker_name()}
    finished = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert finished == sorted(f"Series {number % 3}/Vol {number}.cbz" for number in range(BOOKS)), warnings
    assert all(names_in(out / name)[:2] == ["page 1.png", "page 2.png"] for name in finished)
    rows = stack.rows()
    mine = rows[rows["run_id"] == run]
    assert Counter(mine["out"]) == {str(out / name): 2 for name in finished}
    assert set(mine["status"]) == {"success"}
    assert warnings or not mine["cached"].any(), "a page is cached only where a crashed book was restarted"
    again = stack.ended(stack.deploy_run("backfill/backfill", {"archive": str(shelf), "out": str(out)}))
    assert again["state_type"] == "COMPLETED"
    assert len(stack.rows()) == len(rows), "finished books are not processed again"
