"""Routes of books: the library, the pages of a book with their pictures, and decisions on books that wait for review."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from panelworks.books.register import BookRegister
from panelworks.books.views import BookPage
from panelworks.domain.books import BookOptions, BookResult
from panelworks.domain.result import Review
from panelworks.errors import Rejected, Transient
from panelworks.page.decisions import MAX_COMMENT_CHARACTERS, Decision
from panelworks.page.views import Layer
from service.gateway.access import Admin, GuardedRoute
from service.gateway.backfills import BackfillRequest
from service.gateway.book_index import BookList, BookQuery, BookRow, OpenRun, is_doubtful
from service.gateway.jobs import run_url
from service.gateway.result_index import MAX_OFFSET, ResultRow
from service.gateway.results import Place
from service.gateway.schemas import Schema
from service.gateway.state import GatewayState, State

router = APIRouter(prefix="/api/books", tags=["books"], route_class=GuardedRoute)
BookId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
MAX_LISTED_PAGES: Final = 400
"""Pages of a book that are listed at a time."""
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED_PAGES)]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET)]
_CACHED: Final = {"Cache-Control": "private, max-age=3600"}
"""Addresses of pictures name the time at which the book ended; see `version_of`."""


class ListedPage(Schema):
    """A page of a book in its list."""

    number: int = Field(description="Position in the book, from 0.")
    name: str
    is_doubtful: bool
    row: ResultRow


class BookDetail(Schema):
    """A book that was processed, with its pages: doubtful ones first."""

    book: BookRow
    review: Review | None
    pages: tuple[ListedPage, ...]
    limit: int
    offset: int
    notes: tuple[str, ...]
    has_pictures: bool = Field(description="False if its file is gone or was replaced, or it failed.")
    has_earlier: bool = Field(description="Is a book that was published before still at its destination?")


class BookPageDetail(Schema):
    """A page of a finished book."""

    book: BookRow
    row: ResultRow
    width: int = Field(description="Of the finished page, in pixels.")
    height: int
    page: BookPage = Field(description="What was done to it, from the provenance file in the book.")
    previous: int | None = Field(description="The page before it that has a picture.")
    next: int | None


class BookDecisionRequest(Schema):
    """What a person decides on a book."""

    comment: str | None = Field(None, max_length=MAX_COMMENT_CHARACTERS)


class DecidedBook(Schema):
    """A book on which a person decided."""

    review: Review
    result: BookResult


@router.get("")
async def books(state: State, caller: Admin, query: Annotated[BookQuery, Query()]) -> BookList:
    """The books of the ledger, of PANELWORKS_LIBRARY and of runs that have not ended."""
    return await state.books.find(query, await open_runs(state))


@router.get("/{book}")
async def book(
    book: BookId, state: State, caller: Admin, limit: Limit = MAX_LISTED_PAGES, offset: Offset = 0
) -> BookDetail:
    """A book that was processed, with a part of its pages."""
    rows = await _rows_of(book, state)
    summary = await _summary_of(rows, state)
    register = BookRegister(state.settings)
    result = await asyncio.to_thread(register.result_at, summary.out)
    unpublished = result is not None and (result.awaits_review or result.was_rejected)
    has_earlier = unpublished and await asyncio.to_thread(register.is_published, summary.out)
    unchanged = result is not None and await asyncio.to_thread(register.is_unchanged, result)
    target = state.settings.target_score
    pages = [
        ListedPage(number=row.page_number or 0, name=row.page, is_doubtful=is_doubtful(row, target), row=row)
        for row in rows
        if row.page is not None
    ]
    pages.sort(key=lambda page: (not page.is_doubtful, page.number))
    return BookDetail(
        book=summary, pages=tuple(pages[offset : offset + limit]), limit=limit, offset=offset, review=result.review if result else None,
        notes=result.notes if result else (), has_pictures=unchanged and result is not None and not result.was_rejected, has_earlier=has_earlier,
    )  # fmt: skip


@router.get("/{book}/pages/{number}")
async def book_page(book: BookId, number: Place, state: State, caller: Admin) -> BookPageDetail:
    """A page of a finished book."""
    rows = await _rows_of(book, state)
    result = await _result_of(rows, state)
    pages = await asyncio.to_thread(state.book_views.pages, result)
    row = next((one for one in rows if one.page_number == number), None)
    if row is None or number >= len(pages):
        raise Rejected("not_found", "The book has no such page.")
    width, height = await asyncio.to_thread(state.book_views.size, result, number)
    summary = await _summary_of(rows, state)
    shown = [one.page_number or 0 for one in rows if one.status == "success"]
    return BookPageDetail(
        book=summary, row=row, width=width, height=height, page=pages[number],
        previous=max((one for one in shown if one < number), default=None),
        next=min((one for one in shown if one > number), default=None),
    )  # fmt: skip


@router.get("/{book}/pages/{number}/thumbnail", response_class=Response)
async def thumbnail(book: BookId, number: Place, state: State, caller: Admin) -> Response:
    """A small picture of a page of a finished book."""
    result = await _result_of(await _rows_of(book, state), state)
    data = await asyncio.to_thread(state.book_views.thumbnail, result, number)
    return Response(data, media_type="image/webp", headers=_CACHED)


@router.get("/{book}/pages/{number}/file", response_class=Response)
async def page_file(book: BookId, number: Place, state: State, caller: Admin) -> Response:
    """A page as it is in the finished book, to download. Of a page that could not be processed, that is the original."""
    result = await _result_of(await _rows_of(book, state), state)
    name, data = await asyncio.to_thread(state.book_views.file, result, number)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name.rpartition('/')[2], safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(data, media_type="application/octet-stream", headers=headers)


@router.get("/{book}/pages/{number}/tiles/{layer}/{level}/{column}/{row}", response_class=Response)
async def tile(
    book: BookId, number: Place, layer: Layer, level: Place, column: Place, row: Place, state: State,
    caller: Admin,
) -> Response:  # fmt: skip
    """A part of a page or of its source, 512 pixels wide, at the size of the finished page or a half, quarter, ... of it."""
    result = await _result_of(await _rows_of(book, state), state)
    cut = partial(state.book_views.tile, result, number, layer, level, column, row)
    data, media_type = await asyncio.to_thread(cut)
    return Response(data, media_type=media_type, headers=_CACHED)


@router.post("/{book}/approve")
async def approve(book: BookId, body: BookDecisionRequest, state: State, caller: Admin) -> DecidedBook:
    """Publish a book that waits for review. Approving it again changes nothing."""
    return await _decide(book, Decision(state="approved", by=caller.name, comment=body.comment), state)


@router.post("/{book}/reject")
async def reject(book: BookId, body: BookDecisionRequest, state: State, caller: Admin) -> DecidedBook:
    """Remove a book that waits for review. Its source stays, and so does the book that was published before."""
    return await _decide(book, Decision(state="rejected", by=caller.name, comment=body.comment), state)


async def _decide(book: str, decision: Decision, state: GatewayState) -> DecidedBook:
    rows = await _rows_of(book, state)
    result = await asyncio.to_thread(state.book_reviews.decide, str(rows[0].out), decision)
    if result.review is None:
        raise Rejected("not_reviewed", "This book was published without a review.")
    state.results.expire()
    await state.decisions.report_soon()
    return DecidedBook(review=result.review, result=result)


async def request_for_book(book: str, state: GatewayState) -> BackfillRequest:
    """The request that processes a book again, with its options and at its destination.

    Raises:
        Rejected: `unknown_book`.
    """
    rows = await _rows_of(book, state)
    options = BookOptions()
    with suppress(Rejected):
        result = await _result_of(rows, state)
        options = await asyncio.to_thread(state.book_views.options, result)
    return BackfillRequest(archive=rows[0].book, out=rows[0].out, options=options, force=True)


async def open_runs(state: GatewayState) -> dict[str, OpenRun]:
    """The runs of books that have not ended; none while Prefect does not answer."""
    try:
        return await state.backfills.open_books()
    except Transient:
        return {}


async def _rows_of(book: str, state: GatewayState) -> list[ResultRow]:
    rows = await state.books.rows_of(book)
    if not rows:
        raise Rejected("unknown_book", "There is no such book, or it was not processed yet.")
    return rows


async def _summary_of(rows: list[ResultRow], state: GatewayState) -> BookRow:
    summary = state.books.summary_of(rows)
    runs = await open_runs(state)
    summary = state.books.summary_of(rows, runs.get(summary.book_id))
    return summary.model_copy(update={"run_url": run_url(summary.run_id) if summary.run_id else None})


async def _result_of(rows: list[ResultRow], state: GatewayState) -> BookResult:
    result = await asyncio.to_thread(BookRegister(state.settings).result_at, str(rows[0].out))
    if result is None or result.was_rejected:
        raise Rejected("not_found", "This book has no file.")
    return result
