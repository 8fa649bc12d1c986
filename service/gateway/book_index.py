"""The library: books of the ledger, of the configured library folder and of runs that have not ended, as one list."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal

from pydantic import Field

from panelworks.archives.naming import natural_key
from panelworks.books.shelf import ShelvedBook, find_books
from panelworks.domain.books import book_id
from panelworks.errors import PanelworksError
from panelworks.settings import Settings
from panelworks.storage.location import Location
from service.gateway.result_index import ResultIndex, ResultRow
from service.gateway.schemas import Schema

logger = logging.getLogger(__name__)

LISTING_SECONDS: Final = 60.0
"""Age of the listing of the library folder at which a request lists it again, in the background."""
_MAX_LISTING_WAIT_SECONDS: Final = 0.5
"""A request waits so long for the listing, then answers with what is known."""
_MAX_KNOWN_NAMES: Final = 50_000
"""Names whose place in the order is known."""
BookState = Literal["new", "waiting", "running", "done", "review", "rejected", "failed"]
"""`new`: in the library folder and not processed; `waiting` and `running`: a run was created, has started; `review`: finished,
and waiting for the decision of a person."""


class BookRow(Schema):
    """A book: one that was processed, or one of the library folder."""

    book_id: str
    source: str
    out: str
    state: BookState
    percent: float | None = Field(None, description="Finished share of a running book.")
    run_id: str | None = Field(None, description="The flow run of the backfill, or of the book.")
    run_url: str | None = None
    pages: int | None = None
    failed: int = Field(0, description="Pages that could not be read or processed.")
    doubtful: int = Field(
        0,
        description="Pages that kept their original, or whose score is below the target; failed ones included.",
    )
    score_before: float | None = Field(None, description="Mean overall score of the pages.")
    score_after: float | None = None
    source_bytes: int | None = None
    bytes: int | None = None
    cost: float | None = Field(None, description="US dollars.")
    ended_at: datetime | None = None
    reviewed_by: str | None = None
    message: str | None = Field(None, description="Why the book failed.")


class BookQuery(Schema):
    """Which books are listed. Empty fields do not restrict."""

    state: BookState | None = None
    text: str | None = Field(None, max_length=200, description="Part of the source or the destination.")
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, le=1_000_000)

    def accepts(self, book: BookRow) -> bool:
        """Is a book listed?"""
        if self.state is not None and book.state != self.state:
            return False
        text = (self.text or "").casefold()
        return not text or text in book.source.casefold() or text in book.out.casefold()


class BookList(Schema):
    """One page of books: those that need a person first, then running ones, then the others by name."""

    books: tuple[BookRow, ...]
    total: int = Field(description="Books that the filter accepts.")
    limit: int
    offset: int
    states: dict[BookState, int] = Field(description="Number of books in each state, without the filter.")
    library: str | None = Field(description="PANELWORKS_LIBRARY.")
    library_out: str
    problem: str | None = Field(description="Why the library folder could not be listed.")
    complete: bool = Field(description="False while older books or the library folder are still being read.")


class OpenRun(Schema):
    """The run of a book that has not ended."""

    run_id: str
    source: str
    out: str
    is_running: bool
    percent: float | None = None
    backfill_id: str | None = None
    """The run of the backfill that it belongs to."""


_ORDER: Final[dict[BookState, int]] = {
    "review": 0, "failed": 1, "running": 2, "waiting": 3, "new": 4, "done": 5, "rejected": 6,
}  # fmt: skip


def is_doubtful(row: ResultRow, target: float) -> bool:
    """Should a person look at this page of a book? It failed, kept its original, or has a low score."""
    kept = row.status == "error" or row.route == "couldn't_upscale"
    return kept or (row.score_after is not None and row.score_after < target)


class BookIndex:
    """Books of the ledger's rows, and those of the library folder."""

    def __init__(self, results: ResultIndex, settings: Settings) -> None:
        self._results = results
        self._settings = settings
        self._of_rows: tuple[Sequence[ResultRow], dict[str, list[ResultRow]]] = ([], {})
        self._summaries: tuple[Mapping[str, list[ResultRow]], dict[str, BookRow]] = ({}, {})
        """The rows of books, and the books of these without a run."""
        self._order_of = lru_cache(_MAX_KNOWN_NAMES)(natural_key)
        self._shelf: tuple[ShelvedBook, ...] = ()
        self._listed_at = -LISTING_SECONDS
        self._problem: str | None = None
        self._listing: asyncio.Task[None] | None = None

    async def rows_of(self, wanted: str) -> list[ResultRow]:
        """The rows of the book with this id in reading order; empty if the ledger has none.

        Raises:
            Transient: the ledger is unreachable, and nothing of it is known.
        """
        groups, _ = await self._groups()
        return groups.get(wanted, [])

    async def find(self, query: BookQuery, runs: Mapping[str, OpenRun]) -> BookList:
        """The books that a query accepts.

        Args:
            query: The filter.
            runs: Runs of books that have not ended, by the ids of the books.

        Raises:
            Transient: as `rows_of`.
        """
        groups, complete = await self._groups()
        await self._list_library()
        books = self._merge(groups, runs)
        found = sorted(
            (book for book in books if query.accepts(book)),
            key=lambda book: (_ORDER[book.state], self._order_of(book.source)),
        )
        return BookList(
            books=tuple(found[query.offset : query.offset + query.limit]), total=len(found),
            limit=query.limit, offset=query.offset, states=dict(Counter(book.state for book in books)),
            library=self._settings.library, library_out=self._settings.finished_library,
            problem=self._problem, complete=complete and (self._listing is None or self._listing.done()),
        )  # fmt: skip

    def count_pending(self) -> int:
        """Books that wait for review, as far as the ledger was read."""
        _, groups = self._of_rows
        return sum(rows[0].review == "pending" for rows in groups.values())

    def summary_of(self, rows: Sequence[ResultRow], run: OpenRun | None = None) -> BookRow:
        """The book of some rows of the ledger, of which there is at least one."""
        first, pages = rows[0], [row for row in rows if row.page is not None]
        target = self._settings.target_score
        state: BookState = "done" if pages else "failed"
        if first.review in ("pending", "rejected"):
            state = "review" if first.review == "pending" else "rejected"
        if run is not None:
            state = "running" if run.is_running else "waiting"
        return BookRow(
            book_id=book_id(str(first.out)), source=str(first.book), out=str(first.out), state=state,
            percent=run.percent if run else None, run_id=run.run_id if run else first.run_id,
            pages=len(pages) or None, failed=sum(row.status == "error" for row in pages),
            doubtful=sum(is_doubtful(row, target) for row in pages),
            score_before=_mean(row.score_before for row in pages), score_after=_mean(row.score_after for row in pages),
            source_bytes=sum(row.source_bytes or 0 for row in rows), bytes=sum(row.bytes or 0 for row in pages) or None,
            cost=_sum(row.cost for row in rows), ended_at=first.recorded_at, reviewed_by=first.reviewed_by,
            message=None if pages else first.message,
        )  # fmt: skip

    def _merge(self, groups: Mapping[str, list[ResultRow]], runs: Mapping[str, OpenRun]) -> list[BookRow]:
        if self._summaries[0] is not groups:
            self._summaries = groups, {name: self.summary_of(rows) for name, rows in groups.items()}
        books = dict(self._summaries[1])
        books |= {name: self.summary_of(groups[name], runs[name]) for name in groups.keys() & runs.keys()}
        out = Location.parse(self._settings.finished_library).absolute()
        for shelved in self._shelf:
            place = str(out.joined(shelved.name))
            name = book_id(place)
            if name not in books:
                books[name] = _unprocessed(name, shelved.source, place, runs.get(name), shelved.bytes)
        for name, run in runs.items():
            if name not in books:
                books[name] = _unprocessed(name, run.source, run.out, run)
        return list(books.values())

    async def _groups(self) -> tuple[dict[str, list[ResultRow]], bool]:
        """The rows of books by the ids of the books, and whether the ledger was read completely."""
        rows, complete = await self._results.read()
        if self._of_rows[0] is not rows:
            self._of_rows = (rows, await asyncio.to_thread(_group, rows))
        return self._of_rows[1], complete

    async def _list_library(self) -> None:
        """List the library folder in the background if the listing is old."""
        if self._settings.library is None:
            return
        if self._listing is None and time.monotonic() - self._listed_at >= LISTING_SECONDS:
            self._listing = asyncio.create_task(asyncio.to_thread(self._read_library, self._settings.library))
        if self._listing is not None:
            await asyncio.wait({self._listing}, timeout=_MAX_LISTING_WAIT_SECONDS)
            if self._listing.done():
                self._listing, self._listed_at = None, time.monotonic()

    def _read_library(self, place: str) -> None:
        try:
            self._shelf = tuple(find_books(place, self._settings, without=self._settings.finished_library))
            self._problem = None
        except PanelworksError as error:
            logger.warning("library %s not listed: %s", place, error)
            self._problem = error.message


def _group(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    groups: dict[str, list[ResultRow]] = {}
    for row in rows:
        if row.book is not None and row.out is not None:
            groups.setdefault(row.out, []).append(row)
    return {
        book_id(out): sorted(of_book, key=lambda row: row.page_number or 0) for out, of_book in groups.items()
    }


def _unprocessed(
    name: str, source: str, out: str, run: OpenRun | None, source_bytes: int | None = None
) -> BookRow:
    state: BookState = "new" if run is None else "running" if run.is_running else "waiting"
    return BookRow(
        book_id=name, source=source, out=out, state=state, source_bytes=source_bytes,
        percent=run.percent if run else None, run_id=run.run_id if run else None,
    )  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 6) if known else None
