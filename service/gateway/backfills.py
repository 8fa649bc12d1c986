"""Backfills: started, listed, followed and cancelled as runs of Prefect, with their reports."""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Response
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import Field

from panelworks.books.backfill import Backfill, Expectation, Window, estimate_work, requests_of
from panelworks.domain.books import BookOptions
from panelworks.domain.fields import ClientText
from panelworks.errors import Rejected
from panelworks.page.entry_points import admit_backfill
from panelworks.settings import Settings
from panelworks.storage.location import Location
from service.gateway.access import Admin, GuardedRoute
from service.gateway.book_index import OpenRun
from service.gateway.jobs import run_url, status_of
from service.gateway.schemas import MAX_ADDRESS_CHARACTERS, JobStatus, Schema
from service.gateway.state import State

router = APIRouter(prefix="/api/backfills", tags=["books"], route_class=GuardedRoute)
_DEPLOYMENT: Final = "backfill/backfill"
_BACKFILLS: Final = "backfill"
_BOOKS: Final = "enhance-book"
_OPEN_STATES: Final = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_MAX_OPEN_RUNS: Final = 200
_MAX_LISTED: Final = 20
_MAX_OPENED_BOOKS: Final = 200
"""An estimate opens the unfinished books if they are not more than these: a caller waits for it."""
_CACHE_SECONDS: Final = 1.5
_REPORT_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "X-Content-Type-Options": "nosniff",
}
"""The report is a page for itself: it has its styles and pictures in it, and runs nothing."""
Place = Annotated[ClientText, Field(min_length=1, max_length=MAX_ADDRESS_CHARACTERS)]


class BackfillRequest(Schema):
    """Books to process."""

    archive: Place | None = Field(
        None, description="Folder or s3://bucket/prefix of the books, or one book; empty: PANELWORKS_LIBRARY."
    )
    out: Place | None = Field(
        None, description="Folder or s3://bucket/prefix of the finished books; empty: PANELWORKS_LIBRARY_OUT."
    )
    options: BookOptions = Field(
        BookOptions(), description="What to do with the pages, and how to write them."
    )
    until: str | None = Field(
        None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="Time of day after which no book is started."
    )
    budget: float | None = Field(
        None, gt=0, description="US dollars; no book is started once the books of this run cost as much."
    )
    force: bool = Field(False, description="Process books and pages again even if they are done.")


class BackfillRun(Schema):
    """A backfill."""

    backfill_id: str
    archive: str
    out: str
    status: JobStatus
    message: str | None = Field(None, description="What Prefect says of its state.")
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    percent: float | None = Field(
        None, description="Finished share of its books; null before the first one ended."
    )
    progress: str | None = Field(None, description="The same as text.")
    run_url: str | None
    has_report: bool = False
    books: tuple[OpenRun, ...] = Field((), description="Its books that wait or run; only of one backfill.")


class BackfillList(Schema):
    """Backfills, the newest first."""

    backfills: tuple[BackfillRun, ...]


@router.post("", status_code=202)
async def start(body: BackfillRequest, state: State, caller: Admin) -> BackfillRun:
    """Process the unfinished books of an archive, in the background."""
    run = await state.backfills.start(_backfill_of(body, state.settings), body.until)
    return await describe(run, state)


@router.post("/estimate")
async def estimate(body: BackfillRequest, state: State, caller: Admin) -> Expectation:
    """What a backfill would do: books, pages, time and cost, from the latest pages of the ledger."""
    wanted = _backfill_of(body, state.settings)

    def estimated() -> Expectation:
        requests = requests_of(wanted, state.settings, "")
        return estimate_work(requests, state.settings, max_opened=_MAX_OPENED_BOOKS)

    return await asyncio.to_thread(estimated)


@router.get("")
async def list_backfills(state: State, caller: Admin) -> BackfillList:
    """The backfills that were started last."""
    runs = await state.backfills.list_newest()
    shares = await state.backfills.progress_of(runs)
    reports = await asyncio.to_thread(state.backfills.find_reports, [str(run.id) for run in runs])
    return BackfillList(backfills=tuple(_described(run, shares, reports) for run in runs))


@router.get("/{backfill_id}")
async def backfill(backfill_id: str, state: State, caller: Admin) -> BackfillRun:
    """One backfill."""
    return await describe(await state.backfills.find(backfill_id), state)


@router.post("/{backfill_id}/cancel", status_code=202)
async def cancel(backfill_id: str, state: State, caller: Admin) -> BackfillRun:
    """Start no further book. Books that run are finished."""
    await state.jobs.cancel(await state.backfills.find(backfill_id))
    return await describe(await state.backfills.find(backfill_id), state)


@router.get("/{backfill_id}/report", response_class=Response)
async def report(backfill_id: str, state: State, caller: Admin) -> Response:
    """The report of a backfill that has ended, as a page of HTML."""
    run = await state.backfills.find(backfill_id)
    html = await asyncio.to_thread(state.backfills.read_report, str(run.id))
    if html is None:
        raise Rejected("not_found", "This backfill has no report yet.")
    return Response(html, media_type="text/html; charset=utf-8", headers=_REPORT_HEADERS)


async def describe(run: FlowRun, state: State) -> BackfillRun:
    """A backfill with its progress."""
    shares = await state.backfills.progress_of([run])
    reports = await asyncio.to_thread(state.backfills.find_reports, [str(run.id)])
    found = _described(run, shares, reports)
    if found.status not in ("queued", "running"):
        return found
    open_books = (await state.backfills.open_books()).values()
    books = [book for book in open_books if book.backfill_id == str(run.id)]
    return found.model_copy(update={"books": tuple(sorted(books, key=lambda book: not book.is_running))})


def _described(
    run: FlowRun, shares: Mapping[str, tuple[float | None, str | None]], reports: Collection[str]
) -> BackfillRun:
    percent, progress = shares.get(str(run.id), (None, None))
    status = status_of(run)
    return BackfillRun(
        backfill_id=str(run.id), archive=str(run.parameters["archive"]), out=str(run.parameters.get("out")),
        status=status, message=run.state.message if run.state and status not in ("queued", "running") else None,
        created=run.created, started=run.start_time, ended=run.end_time, percent=percent, progress=progress,
        run_url=run_url(run.id), has_report=str(run.id) in reports,
    )  # fmt: skip


def _backfill_of(body: BackfillRequest, settings: Settings) -> Backfill:
    """The backfill of a request, with the configured library where it names no place.

    Raises:
        Rejected: `no_library`. UnsafeSource: as `admit_backfill`.
    """
    archive = body.archive or settings.library
    if archive is None:
        raise Rejected("no_library", "Name an archive, or set PANELWORKS_LIBRARY.")
    out = body.out or settings.finished_library
    admit_backfill(archive, out, body.options.page, settings)
    if body.until is not None:
        Window.model_validate({"until": body.until})
    return Backfill(
        archive=str(Location.parse(archive).absolute()), out=str(Location.parse(out).absolute()),
        options=body.options, budget=body.budget, force=body.force,
    )  # fmt: skip
