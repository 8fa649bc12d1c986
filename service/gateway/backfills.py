"""Backfills: started, listed, followed and cancelled as runs of Prefect, with their reports."""

import asyncio
import re
from typing import Annotated, Final

from fastapi import APIRouter, Response
from prefect.client.schemas.objects import FlowRun
from pydantic import Field, field_validator

from panelworks.books.backfill import Backfill, Expectation, estimate_work, requests_of
from panelworks.domain.books import BookOptions
from panelworks.domain.fields import ClientText
from panelworks.errors import Rejected
from panelworks.page.entry_points import admit_backfill
from panelworks.settings import Settings
from panelworks.storage.location import Location
from panelworks.text import to_printable
from service.gateway.access import Admin, GuardedRoute
from service.gateway.backfill_runs import BackfillRun
from service.gateway.schemas import MAX_ADDRESS_CHARACTERS, Schema
from service.gateway.state import State

router = APIRouter(prefix="/api/backfills", tags=["books"], route_class=GuardedRoute)
_MAX_OPENED_BOOKS: Final = 200
"""An estimate opens the unfinished books if they are not more than these: a caller waits for it."""
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
        None,
        description="Time of day after which no book is started, such as 06:30, in the time of the workers.",
    )
    budget: float | None = Field(
        None, gt=0, description="US dollars; no book is started once the books of this run cost as much."
    )
    force: bool = Field(False, description="Process books and pages again even if they are done.")

    @field_validator("until")
    @classmethod
    def _is_time_of_day(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError("a time of day has the form 06:30")
        return value


class BackfillList(Schema):
    """Backfills, the newest first."""

    backfills: tuple[BackfillRun, ...]


@router.post("", status_code=202)
async def start(body: BackfillRequest, state: State, caller: Admin) -> BackfillRun:
    """Process the unfinished books of an archive, in the background."""
    wanted = _backfill_of(body, state.settings)
    await asyncio.to_thread(_check_archive, wanted.archive)
    run = await state.backfills.start(wanted, body.until)
    state.backfills.expire()
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
    return BackfillList(backfills=await state.backfills.list_newest())


@router.get("/{backfill_id}")
async def backfill(backfill_id: str, state: State, caller: Admin) -> BackfillRun:
    """One backfill."""
    return await describe(await state.backfills.find(backfill_id), state)


@router.post("/{backfill_id}/cancel", status_code=202)
async def cancel(backfill_id: str, state: State, caller: Admin) -> BackfillRun:
    """Start no further book. Books that run are finished."""
    await state.jobs.cancel(await state.backfills.find(backfill_id))
    state.backfills.expire()
    return await describe(await state.backfills.find(backfill_id), state)


@router.get("/{backfill_id}/report", response_class=Response)
async def report(backfill_id: str, state: State, caller: Admin) -> Response:
    """The report of a backfill as a page of HTML: of one that was stopped or still runs, what was recorded so far."""
    run = await state.backfills.find(backfill_id)
    html = await asyncio.to_thread(state.backfills.read_report, run)
    if html is None:
        raise Rejected("not_found", "No page of this backfill has been recorded yet.")
    return Response(html, media_type="text/html; charset=utf-8", headers=_REPORT_HEADERS)


async def request_of(backfill_id: str, state: State) -> BackfillRequest:
    """The request of an earlier backfill, to start it again; finished books are not processed again.

    Raises:
        Rejected: `not_found`.
    """
    given = (await state.backfills.find(backfill_id)).parameters
    wanted = {name: given.get(name) for name in ("archive", "out", "until", "budget")}
    return BackfillRequest.model_validate({**wanted, "options": given.get("options") or {}})


async def describe(run: FlowRun, state: State) -> BackfillRun:
    """A backfill with its progress."""
    (found,) = await state.backfills.describe([run])
    open_books = (await state.backfills.open_books()).values()
    books = [book for book in open_books if book.backfill_id == str(run.id)]
    return found.model_copy(update={"books": tuple(sorted(books, key=lambda book: not book.is_running))})


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
    return Backfill(
        archive=str(Location.parse(archive).absolute()), out=str(Location.parse(out).absolute()),
        options=body.options, budget=body.budget, force=body.force,
    )  # fmt: skip


def _check_archive(archive: str) -> None:
    """Refuse a local archive that does not exist here, before a run is created.

    Raises:
        Rejected: `not_found`.
    """
    place = Location.parse(archive)
    if not place.is_in_bucket and not place.path.exists():
        raise Rejected("not_found", f"There is no folder and no book at {to_printable(archive)}.")
