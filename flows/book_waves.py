"""The book runs of a backfill: submitted in waves, never more than a few that wait."""

import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final
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
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from panelworks.accounting.budget import Halt
from panelworks.books.backfill import HOPELESS, Limits
from panelworks.books.register import BookRegister
from panelworks.domain.books import BackfillSummary, BookRequest, BookResult, Refusal
from panelworks.domain.fields import digest_of
from panelworks.errors import NOT_READABLE, Transient
from panelworks.page.pipeline import MAX_RUNS
from panelworks.settings import get_settings

DEPLOYMENT: Final = "enhance-book/enhance-book"
_POLL_SECONDS: Final = 2.0
_TAKEN_BACK: Final = "Its backfill took it back before it was begun."
_WAITING: Final = [StateType.SCHEDULED, StateType.PENDING]


class BookRuns:
    """Runs of books that belong to one backfill."""

    def __init__(self, run_id: str, at_most: int, limits: Limits, *, here: bool) -> None:
        """`here` processes books in this process instead of submitting them."""
        self._run_id, self._at_most, self._limits, self._here = run_id, at_most, limits, here
        self._todo: deque[BookRequest] = deque()
        self._open: dict[UUID, BookRequest] = {}
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._crashes: Counter[str] = Counter()
        self._retried: set[str] = set()
        self._incomplete: list[str] = []
        self._hopeless = False
        self._stopped: str | None = None
        self._paused: Halt | None = None
        self._taking_back = self._told_of_price = False

    def process(self, requests: Sequence[BookRequest]) -> None:
        """Process books, as many as window and budget allow; returns when the last one that was begun has ended."""
        self._todo = deque(requests)
        while self._open or (self._todo and self._stopped is None):
            if not self._may_begin():
                self._wait()
            elif self._here:
                self._process(self._todo.popleft())
            else:
                self._submit(self._todo.popleft())

    def _may_begin(self) -> bool:
        """Is there a book to begin, room for it, time, and money?"""
        if self._stopped is None:
            self._heed(self._limit())
        return (
            self._stopped is None
            and self._paused is None
            and bool(self._todo)
            and len(self._open) < self._at_most
        )

    def _heed(self, limit: Halt | None) -> None:
        """Stop or pause at a limit: books that wait are taken back, those under way are finished."""
        if limit is not None and limit.until is None:
            self._stopped = limit.reason
            self._take_back(f"no further book is begun: {limit.reason}")
        elif limit is not None and self._paused is None:
            self._take_back(f"{limit.reason}: paused until {limit.until:%H:%M} UTC")
        elif limit is None and self._paused is not None:
            get_run_logger().info("books are begun again")
        self._paused = limit

    def _limit(self) -> Halt | None:
        if self._hopeless:
            return Halt(reason="all would fail", until=None)
        try:
            limit = self._limits.reached(datetime.now().astimezone())
        except Transient as error:
            get_run_logger().warning("what was spent is not known now: %s", error.message)
            return self._paused
        if self._limits.budget.unpriced and not self._told_of_price:
            self._told_of_price = True
            get_run_logger().warning("some pages have no price, so that the budget does not count them")
        return limit

    def _take_back(self, why: str) -> None:
        get_run_logger().info(why)
        self._taking_back = not self._here

    def _wait(self) -> None:
        """Wait a little, then look at the runs; a server that is away for a while is waited for."""
        time.sleep(_POLL_SECONDS)
        try:
            self._look()
        except httpx.HTTPError as error:
            get_run_logger().warning("the server does not answer (%s)", type(error).__name__)

    def summary(
        self, *, books: int, done_before: Sequence[BookResult], left_out: Sequence[Refusal] = ()
    ) -> BackfillSummary:
        """How the backfill ended; books that were done before and are incomplete are named again."""
        before = [result.source for result in done_before if result.status == "incomplete"]
        return BackfillSummary(
            books=books,
            done_before=len(done_before),
            done=len(self._done),
            failed=self._failed,
            incomplete=(*before, *self._incomplete),
            unlisted={one.name: one.message for one in left_out if one.code == NOT_READABLE},
            left=books - len(done_before) - len(self._done) - len(self._failed),
            stopped=self._stopped,
        )

    def _process(self, request: BookRequest) -> None:
        from flows.enhance_book import enhance_book

        state = enhance_book(
            request.source, request.out, request.options, request.run_id, request.force, return_state=True
        )
        self._note(request, completed=state.is_completed(), message=state.message)

    def _submit(self, request: BookRequest) -> None:
        """Submit a book under a name of its own: the same book is never waiting twice."""
        identity = digest_of([request.out, request.fingerprint, request.options.model_dump(mode="json")])[:24]
        with get_client(sync_client=True) as client:
            ended = _ended(client, f"book:{identity}")
        attempt = f"{self._run_id}:{ended}" if request.force else str(ended)
        run = run_deployment(
            DEPLOYMENT,
            parameters={
                "source": request.source,
                "out": request.out,
                "options": request.options.model_dump(mode="json"),
                "run_id": self._run_id,
                "force": request.force,
            },
            timeout=0,
            as_subflow=False,
            idempotency_key=f"book:{identity}:{attempt}",
            tags=["backfill", f"backfill:{self._run_id}", f"book:{identity}"],
        )
        if isinstance(run, FlowRun):  # in a sync flow it always is
            self._open[run.id] = request

    def _look(self) -> None:
        """Take back books that have not begun, if that is due; take note of runs that have ended."""
        if self._taking_back:
            cancel_waiting(self._run_id)
            self._taking_back = False
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
                self._note(request, completed=False, message="Its run was removed.")
            elif state.is_cancelled() and state.message == _TAKEN_BACK:
                self._todo.append(request)
            elif state.is_crashed() and self._may_begin_again(request):
                get_run_logger().warning("%s crashed, and is begun again: %s", request.source, state.message)
                self._todo.append(request)
            else:
                self._note(request, completed=state.is_completed(), message=state.message)

    def _may_begin_again(self, request: BookRequest) -> bool:
        """Has a book whose run crashed crashed less often than it may? Its finished pages come from the cache."""
        self._crashes[request.source] += 1
        return self._crashes[request.source] < MAX_RUNS

    def _note(self, request: BookRequest, *, completed: bool, message: str | None) -> None:
        if completed:
            self._done.append(request.source)
            known = BookRegister(get_settings()).known(request)
            if known is not None and known.status == "incomplete":
                self._incomplete.append(request.source)
            return
        if request.source not in self._retried and BookRegister(get_settings()).is_costly(request):
            self._retried.add(request.source)
            self._todo.append(request)
            get_run_logger().warning("%s is retried last: %s", request.source, message)
            return
        self._failed[request.source] = message or "no reason was given"
        get_run_logger().warning("%s failed: %s", request.source, message)
        self._hopeless |= any(f"[{code}]" in (message or "") for code in HOPELESS)


def workers_wait() -> bool:
    """Does the server know the book's deployment, and is a worker there that takes its runs?"""
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
        for run in _runs_tagged(client, f"backfill:{run_id}", _WAITING):
            client.set_flow_run_state(run.id, Cancelled(message=_TAKEN_BACK), force=True)


def _ended(client: SyncPrefectClient, tag: str) -> int:
    """How many runs of this book have ended, in whatever way."""
    ended = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
    return len(_runs_tagged(client, tag, ended))


def _runs_tagged(client: SyncPrefectClient, tag: str, states: list[StateType]) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
        )
    )
