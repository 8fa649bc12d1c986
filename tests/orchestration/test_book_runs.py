"""The book runs of a backfill on a real server: paused, cancelled, submitted again."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Completed, Crashed, Failed

from flows.backfill import backfill
from flows.enhance_book import enhance_book
from orchestration import book_runs
from orchestration.book_runs import BookRuns
from panelworks.accounting.budget import Budget, Halt
from panelworks.books.backfill import Backfill, Limits, requests_of
from panelworks.books.register import BookRegister
from panelworks.domain.books import BackfillSummary, BookRequest
from panelworks.settings import Settings
from tests.books import write_book

POOL_WITHOUT_WORKERS = "without-workers"


@pytest.fixture
def deployed() -> None:
    """The deployment of books, in a pool without a worker: submitted runs wait."""
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL_WITHOUT_WORKERS, type="process"))
        except ObjectAlreadyExists:
            return
        client.create_deployment(
            client.create_flow_from_name(enhance_book.name),
            "enhance-book",
            work_pool_name=POOL_WITHOUT_WORKERS,
        )


class FixedLimits:
    """Replaces the budget: returns one limit after the other, then the last one."""

    unpriced = False

    def __init__(self, *answers: Halt | None) -> None:
        self._answers: Iterator[Halt | None] = iter(answers)
        self._last: Halt | None = None

    def reached(self, now: datetime) -> Halt | None:
        self._last = next(self._answers, self._last)
        return self._last


class FixedStates(FixedLimits):
    """Replaces the worker as well: before each limit, waiting runs get the next state."""

    def __init__(self, run_id: str, *states: State[Any]) -> None:
        super().__init__(None)
        self._run_id, self._states = run_id, iter(states)

    def reached(self, now: datetime) -> Halt | None:
        with get_client(sync_client=True) as client:
            for run in runs_of(self._run_id):
                if run.state is not None and run.state.is_scheduled():
                    client.set_flow_run_state(run.id, next(self._states), force=True)
        return super().reached(now)


def books(
    tmp_path: Path, settings: Settings, count: int, run_id: str, *, force: bool = False
) -> list[BookRequest]:
    for number in range(count):
        write_book(tmp_path / "shelf" / f"{run_id} {number}.cbz", 1, first_seed=number)
    backfill_request = Backfill(archive=str(tmp_path / "shelf"), out=str(tmp_path / "out"), force=force)
    return requests_of(backfill_request, settings, run_id)


def runs_of(run_id: str) -> list[FlowRun]:
    """The book runs of a backfill, the oldest first."""
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"backfill:{run_id}"]))
        return sorted(client.read_flow_runs(flow_run_filter=wanted), key=lambda run: str(run.created))


def process(requests: list[BookRequest], run_id: str, limits: FixedLimits) -> BackfillSummary:
    """Process books inside a flow, as a backfill does."""

    @flow(name="books")
    def books_flow() -> BackfillSummary:
        runs = BookRuns(run_id, 20, Limits(None, cast(Budget, limits)), None)
        runs.process(requests)
        return runs.summary(books=len(requests), done_before=[])

    return books_flow()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.usefixtures("deployed")
def test_a_pause_cancels_waiting_books_and_submits_them_again(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    monkeypatch.setattr(book_runs, "POLL_SECONDS", 0.1)
    run_id = f"pausing-{force}"
    requests = books(tmp_path, settings, 2, run_id, force=force)
    today = Halt(reason="the day's is spent", until=datetime.now().astimezone() + timedelta(hours=1))
    over = Halt(reason="all is spent", until=None)
    summary = process(requests, run_id, FixedLimits(None, None, today, today, None, None, over))
    runs = runs_of(run_id)
    assert [run.state_name for run in runs] == ["Cancelled"] * 4
    assert len({run.parameters["source"] for run in runs}) == 2
    assert {run.state.message for run in runs if run.state} == {book_runs.REQUEUED}
    assert (summary.done, summary.failed, summary.left, summary.stopped) == (0, {}, 2, "all is spent")


@pytest.mark.parametrize(
    ("states", "done", "failed"),
    [
        ([Crashed(), Completed()], 1, []),
        ([Crashed(), Crashed(), Crashed(message="It died.")], 0, ["It died."]),
        ([Failed(message="No such book.")], 0, ["No such book."]),
    ],
)
@pytest.mark.usefixtures("deployed")
def test_a_book_whose_run_crashes_is_restarted(
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    states: list[State[Any]],
    done: int,
    failed: list[str],
) -> None:
    monkeypatch.setattr(book_runs, "POLL_SECONDS", 0.1)
    run_id = f"ending-{len(states)}-{done}"
    summary = process(books(tmp_path, settings, 1, run_id), run_id, FixedStates(run_id, *states))
    assert [run.state_type for run in runs_of(run_id)] == [state.type for state in states]
    assert (summary.done, list(summary.failed.values()), summary.left) == (done, failed, 0)


@pytest.mark.parametrize("end", [Completed(), Failed(message="Its parser ended again.")])
@pytest.mark.usefixtures("deployed")
def test_a_book_that_stopped_its_parser_is_retried_once(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, end: State[Any]
) -> None:
    monkeypatch.setattr(book_runs, "POLL_SECONDS", 0.1)
    run_id = f"costly-{end.name}"
    requests = books(tmp_path, settings, 1, run_id)
    BookRegister(settings).enter_costly(requests[0])
    summary = process(requests, run_id, FixedStates(run_id, Failed(message="Its parser ended."), end))
    assert [run.state_type for run in runs_of(run_id)] == [Failed().type, end.type]
    assert list(summary.failed.values()) == ([] if end.is_completed() else [end.message])
    assert (summary.done, summary.left) == (int(end.is_completed()), 0)


def test_a_backfill_ends_when_its_budget_is_spent_and_is_continued_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_PRICE_PER_HOUR", "3600")  # a dollar a second
    monkeypatch.setattr("panelworks.accounting.budget._READ_INTERVAL_SECONDS", 0.0)
    for number in range(3):
        write_book(tmp_path / "shelf" / f"{number}.cbz", 1, first_seed=number)
    summary = backfill(str(tmp_path / "shelf"), str(tmp_path / "out"), budget=0.01, here=True)
    assert (summary.done, summary.left) == (1, 2)
    assert summary.stopped is not None and summary.stopped.endswith("of the budget of 0.01 are spent")
    again = backfill(str(tmp_path / "shelf"), str(tmp_path / "out"), budget=1000, here=True)
    assert (again.done_before, again.done, again.left, again.stopped) == (1, 2, 0, None)
