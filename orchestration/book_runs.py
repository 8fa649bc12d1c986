"""The book runs of a backfill: submitted up to a number that wait, paused and cancelled at limits, followed to their end."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from orchestration.artifacts import ProgressArtifact
from orchestration.events import BACKFILL_PROGRESS, emit_run_progress
from panelworks.accounting.budget import Halt
from panelworks.books.backfill import FATAL_BACKFILL_CODES, Limits
from panelworks.books.register import BookRegister
from panelworks.domain.books import BackfillSummary, BookRequest, BookResult, Refusal
from panelworks.domain.fields import digest_of
from panelworks.errors import NOT_READABLE, Transient
from panelworks.page.pipeline import MAX_RUNS
from panelworks.settings import get_settings

DEPLOYMENT: Final = "enhance-book/enhance-book"
POLL_SECONDS: Final = 2.0
REQUEUED: Final = "Its backfill cancelled the run before it began and submits the book again."
"""Message of the state of such a run."""
_WAITING: Final = [StateType.SCHEDULED, StateType.PENDING]
_ENDED: Final = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]

RunBook = Callable[[BookRequest], State[Any]]
"""Processes a book in this process; returns the final state of its run."""


class BookRuns:
    """Runs of the books of one backfill."""

    def __init__(self, run_id: str, max_waiting: int, limits: Limits, run_here: RunBook | None) -> None:
        """`run_here` processes books in this process; None submits them to workers."""
        self._run_id, self._max_waiting, self._limits, self._run_here = run_id, max_waiting, limits, run_here
        self._todo: deque[BookRequest] = deque()
        self._open: dict[UUID, BookRequest] = {}
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._crashes: Counter[str] = Counter()
        self._retried: set[str] = set()
        self._incomplete: list[str] = []
        self._awaiting_review: list[str] = []
        self._progress = ProgressArtifact("progress", "books")
        self._hopeless = False
        self._stopped: str | None = None
        self._paused: Halt | None = None
        self._must_cancel = self._warned_of_price = False

    def process(self, requests: Sequence[BookRequest]) -> None:
        """Process books up to the limits; returns when the last submitted one has ended."""
        self._todo = deque(requests)
        while self._open or (self._todo and self._stopped is None):
            if not self._may_submit():
                self._wait()
            elif self._run_here is not None:
                self._process_here(self._todo.popleft(), self._run_here)
            else:
                self._submit(self._todo.popleft())

    def _may_submit(self) -> bool:
        """Is there a book, a free place, time and budget?"""
        if self._stopped is None:
            self._apply_limit(self._reached_limit())
        return (
            self._stopped is None
            and self._paused is None
            and bool(self._todo)
            and len(self._open) < self._max_waiting
        )

    def _apply_limit(self, limit: Halt | None) -> None:
        """Stop or pause at a limit: waiting books are cancelled, running ones are finished."""
        if limit is not None and limit.until is None:
            self._stopped = limit.reason
            self._cancel_waiting(f"no further book is started: {limit.reason}")
        elif limit is not None and self._paused is None:
            self._cancel_waiting(f"books are paused until {limit.until:%H:%M} UTC: {limit.reason}")
        elif limit is None and self._paused is not None:
            get_run_logger().info("books are resumed")
        self._paused = limit

    def _reached_limit(self) -> Halt | None:
        if self._hopeless:
            return Halt(reason="all would fail", until=None)
        try:
            limit = self._limits.reached(datetime.now().astimezone())
        except Transient as error:
            get_run_logger().warning("the spent budget is unknown: %s", error.message)
            return self._paused
        if self._limits.budget.unpriced and not self._warned_of_price:
            self._warned_of_price = True
            get_run_logger().warning("the budget excludes some pages: they have no price")
        return limit

    def _cancel_waiting(self, reason: str) -> None:
        get_run_logger().info(reason)
        self._must_cancel = self._run_here is None

    def _wait(self) -> None:
        """Wait, then follow the runs; an unavailable server is retried."""
        time.sleep(POLL_SECONDS)
        try:
            self._follow()
        except httpx.HTTPError as error:
            get_run_logger().warning("the server does not answer: %s", type(error).__name__)

    def summary(
        self, *, books: int, done_before: Sequence[BookResult], refused: Sequence[Refusal] = ()
    ) -> BackfillSummary:
        """How the backfill ended; incomplete books that were done before are listed again."""
        before = [result.source for result in done_before if result.status == "incomplete"]
        waiting_before = [result.source for result in done_before if result.awaits_review]
        return BackfillSummary(
            books=books,
            done_before=len(done_before),
            done=len(self._done),
            failed=self._failed,
            incomplete=(*before, *self._incomplete),
            waiting=(*waiting_before, *self._awaiting_review),
            unlisted={one.name: one.message for one in refused if one.code == NOT_READABLE},
            left=books - len(done_before) - len(self._done) - len(self._failed),
            stopped=self._stopped,
        )

    def _process_here(self, request: BookRequest, run_here: RunBook) -> None:
        state = run_here(request)
        self._record_end(request, completed=state.is_completed(), message=state.message)

    def _submit(self, request: BookRequest) -> None:
        """Submit a book with an idempotency key: the same book never waits twice."""
        identity = digest_of([request.out, request.fingerprint, request.options.model_dump(mode="json")])[:24]
        with get_client(sync_client=True) as client:
            ended = len(_read_runs(client, f"book:{identity}", _ENDED))
        attempt = f"{self._run_id}:{ended}" if request.force else str(ended)
        run = run_deployment(
            DEPLOYMENT,
            parameters=request.model_copy(update={"run_id": self._run_id}).to_parameters(),
            timeout=0,
            as_subflow=False,
            idempotency_key=f"book:{identity}:{attempt}",
            tags=["backfill", f"backfill:{self._run_id}", f"book:{identity}"],
        )
        if isinstance(run, FlowRun):  # always, in a synchronous flow
            self._open[run.id] = request

    def _follow(self) -> None:
        """Cancel waiting books if a limit demands it; record runs that have ended."""
        if self._must_cancel:
            cancel_waiting(self._run_id)
            self._must_cancel = False
        if not self._open:
            return
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(self._open)))
            )
        found = {run.id: run.state for run in runs}
        for run_id in list(self._open):
            state = found.get(run_id)
            if run_id in found and (state is None or not state.is_final()):
                continue
            request = self._open.pop(run_id)
            if state is None:
                self._record_end(request, completed=False, message="Its run was deleted.")
            elif state.is_cancelled() and state.message == REQUEUED:
                self._todo.append(request)
            elif state.is_crashed() and self._may_restart(request):
                get_run_logger().warning(
                    "%s is restarted: its run crashed: %s", request.source, state.message
                )
                self._todo.append(request)
            else:
                self._record_end(request, completed=state.is_completed(), message=state.message)

    def _may_restart(self, request: BookRequest) -> bool:
        """Has a crashed book runs left? Its finished pages come from the cache."""
        self._crashes[request.source] += 1
        return self._crashes[request.source] < MAX_RUNS

    def _record_end(self, request: BookRequest, *, completed: bool, message: str | None) -> None:
        if completed:
            self._done.append(request.source)
            known = BookRegister(get_settings()).known(request)
            if known is not None and known.status == "incomplete":
                self._incomplete.append(request.source)
            if known is not None and known.awaits_review:
                self._awaiting_review.append(request.source)
            self._show_progress()
            return
        if request.source not in self._retried and BookRegister(get_settings()).is_costly(request):
            self._retried.add(request.source)
            self._todo.append(request)
            get_run_logger().warning("%s is retried after all others: %s", request.source, message)
            return
        self._failed[request.source] = message or "no reason was given"
        get_run_logger().warning("%s failed: %s", request.source, message)
        self._show_progress()
        self._hopeless |= any(f"[{code}]" in (message or "") for code in FATAL_BACKFILL_CODES)

    def _show_progress(self) -> None:
        """Show how many books have ended."""
        ended = len(self._done) + len(self._failed)
        count = ended + len(self._todo) + len(self._open)
        text = f"{ended} of {count} books"
        if self._failed:
            text += f", {len(self._failed)} failed"
        if self._awaiting_review:
            text += f", {len(self._awaiting_review)} waiting for review"
        if self._progress.show(ended / count, text):
            emit_run_progress(BACKFILL_PROGRESS, ended / count, text)


def workers_are_online() -> bool:
    """Does the server know the deployment of books, and does a worker poll its pool?"""
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_deployment_by_name(DEPLOYMENT).work_pool_name
        except ObjectNotFound:
            return False
        return pool is not None and any(
            worker.status == WorkerStatus.ONLINE for worker in client.read_workers_for_work_pool(pool)
        )


def cancel_waiting(run_id: str) -> None:
    """Cancel the books of a backfill that have not begun."""
    with get_client(sync_client=True) as client:
        for run in _read_runs(client, f"backfill:{run_id}", _WAITING):
            client.set_flow_run_state(run.id, Cancelled(message=REQUEUED), force=True)


def _read_runs(client: SyncPrefectClient, tag: str, states: list[StateType]) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
        )
    )
