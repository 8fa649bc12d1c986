"""The book runs of a backfill: submitted in waves, never more than a few that wait."""

import time
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

from panelworks.books.backfill import HOPELESS
from panelworks.books.records import BackfillSummary, BookRequest
from panelworks.books.register import BookRegister
from panelworks.keys import digest_of
from panelworks.settings import get_settings

DEPLOYMENT: Final = "enhance-book/enhance-book"
_POLL_SECONDS: Final = 2.0
_WAITING: Final = [StateType.SCHEDULED, StateType.PENDING]


class BookRuns:
    """Runs of books that belong to one backfill."""

    def __init__(self, run_id: str, at_most: int, *, here: bool, end: datetime | None) -> None:
        """`here` processes books in this process instead of submitting them; after `end` none is begun."""
        self._run_id, self._at_most, self._here, self._end = run_id, at_most, here, end
        self._open: dict[UUID, BookRequest] = {}
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._incomplete: list[str] = []
        self._stopped = False
        self.must_stop = False

    def begin(self, request: BookRequest) -> None:
        """Process a book, or submit it as soon as there is room; neither when it is time to stop."""
        while not self._here and len(self._open) >= self._at_most and not self._over():
            self._pause()
        if self._over():
            return
        if self._here:
            self._process(request)
        else:
            self._submit(request)

    def wait(self) -> None:
        """Until the last run has ended. Those that have not begun when the window ends are taken back."""
        while self._open:
            self._over()
            self._pause()

    def _over(self) -> bool:
        """Is it time to stop? Then books that wait are taken back."""
        ended = self._end is not None and datetime.now().astimezone() >= self._end
        if (ended or self.must_stop) and not self._stopped:
            get_run_logger().info(
                "no further book is begun: %s", "the window ends" if ended else "all would fail"
            )
            self.must_stop = True
            self._stopped = True
            if not self._here:
                cancel_waiting(self._run_id)
        return self.must_stop

    def _pause(self) -> None:
        """Wait a little, then look at the runs; a server that is away for a while is waited for."""
        time.sleep(_POLL_SECONDS)
        try:
            self._look()
        except httpx.HTTPError as error:
            get_run_logger().warning("the server does not answer (%s)", type(error).__name__)

    def summary(self, *, books: int, done_before: int) -> BackfillSummary:
        return BackfillSummary(
            books=books,
            done_before=done_before,
            done=len(self._done),
            failed=self._failed,
            incomplete=tuple(self._incomplete),
            left=books - done_before - len(self._done) - len(self._failed),
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
        attempt = self._run_id if request.force else str(ended)
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
        """Take note of runs that have ended."""
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
            elif not (state.is_cancelled() and self._stopped):
                self._note(request, completed=state.is_completed(), message=state.message)

    def _note(self, request: BookRequest, *, completed: bool, message: str | None) -> None:
        if completed:
            self._done.append(request.source)
            known = BookRegister(get_settings()).known(request)
            if known is not None and known.incomplete:
                self._incomplete.append(request.source)
            return
        self._failed[request.source] = message or "no reason was given"
        get_run_logger().warning("%s failed: %s", request.source, message)
        self.must_stop |= any(f"[{code}]" in (message or "") for code in HOPELESS)


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
            client.set_flow_run_state(run.id, Cancelled(message="The backfill was ended."), force=True)


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
