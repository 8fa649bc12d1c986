"""The index of results: finished pages as the ledger has them, the newest first, with filters and paging.

The ledger is one small file for each job. A gateway reads it at the first request and keeps the rows in memory; further
requests read what was written since.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from itertools import islice, takewhile
from typing import Any, Final, Literal

from pydantic import Field

from panelworks.accounting.ledger import REVIEWED, Ledger
from panelworks.domain.result import ReviewState
from panelworks.errors import Transient
from service.gateway.schemas import Schema

logger = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 2.0
"""Age of the rows at which a request reads the ledger again."""
MAX_WAIT_SECONDS: Final = 2.0
"""A request waits so long for the ledger, then answers with the rows that are known."""
MAX_OFFSET: Final = 1_000_000
_MAX_FACETS: Final = 50
_REVIEW_FIELDS: Final = ("review", "reviewed_at", "reviewed_by", "review_comment")
"""Fields of a page of a book that the decision of a person on the book changes."""
_DECIDED_FIELDS: Final = ("route", "score_after", "model", "scale", "bytes", *_REVIEW_FIELDS)
"""Fields of a page that the decision of a person changes."""
_ROWS_BETWEEN_LISTS: Final = 1000
"""Rows that are read before those that are known are listed, while the whole ledger is read."""


class ResultRow(Schema):
    """A finished page, successful or not."""

    recorded_at: datetime
    job_id: str | None
    owner: str | None
    tool: str | None
    comic_id: str | None
    panel_id: str | None
    book: str | None
    page: str | None
    page_number: int | None
    source: str | None
    source_width: int | None
    source_height: int | None
    source_bytes: int | None
    content_key: str | None
    out: str | None
    run_id: str | None
    status: Literal["success", "error"]
    route: str | None
    cached: bool | None
    score_before: float | None
    score_after: float | None
    model: str | None
    scale: float | None
    seconds: float | None
    cost: float | None
    bytes: int | None
    error: str | None
    message: str | None
    notes: str | None
    review: ReviewState | None
    reviewed_at: datetime | None
    reviewed_by: str | None
    review_comment: str | None


class ResultQuery(Schema):
    """Which results are listed. Empty fields do not restrict."""

    status: Literal["success", "error"] | None = Field(None, description="Delivered pages, or failed ones.")
    route: str | None = Field(None, description="upscaled, good_quality or couldn't_upscale.")
    review: ReviewState | None = Field(
        None, description="Pages that wait for the decision of a person, or for which it was made."
    )
    tool: str | None = None
    comic: str | None = Field(None, description="comic_id of the request.")
    book: str | None = Field(None, description="Source of the book.")
    min_score: float | None = Field(None, ge=0, le=1, description="Minimum overall score of the result.")
    max_score: float | None = Field(None, ge=0, le=1, description="Maximum overall score of the result.")
    text: str | None = Field(
        None, max_length=200, description="Part of the source, job, panel, comic or page."
    )
    limit: int = Field(50, ge=1, le=200)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)

    def select(self, rows: list[ResultRow]) -> list[ResultRow]:
        """The rows that are listed, in the same order. Each field that has a value leaves fewer of them."""
        wanted: dict[str, str | None] = {
            "status": self.status, "route": self.route, "tool": self.tool, "comic_id": self.comic,
            "book": self.book, "review": self.review,
        }  # fmt: skip
        for field, value in wanted.items():
            if value is not None:
                rows = [row for row in rows if getattr(row, field) == value]
        if self.review is not None:  # books are reviewed as a whole
            rows = [row for row in rows if row.book is None]
        if self.min_score is not None or self.max_score is not None:
            low, high = self.min_score or 0.0, 1.0 if self.max_score is None else self.max_score
            rows = [row for row in rows if row.score_after is not None and low <= row.score_after <= high]
        if self.text is not None:
            text = self.text.casefold()
            rows = [row for row in rows if text in _searched(row)]
        return rows


class Facets(Schema):
    """The values that occur among the results of the caller, the most frequent first, with their numbers."""

    tools: dict[str, int]
    comics: dict[str, int]
    books: dict[str, int]
    routes: dict[str, int]
    reviews: dict[str, int]


class ResultList(Schema):
    """One page of results, the newest first."""

    results: tuple[ResultRow, ...]
    total: int = Field(description="Results that the filter accepts.")
    limit: int
    offset: int
    facets: Facets
    complete: bool = Field(description="False while the gateway is still reading older rows of the ledger.")


class DaySummary(Schema):
    """The pages of the present day (UTC)."""

    day: date
    delivered: int
    failed: int
    cost: float = Field(description="US dollars; pages without a price count as 0.")
    budget: float | None = Field(description="US dollars a day over all keys; null without a limit.")


class ResultIndex:
    """The rows of the ledger in memory."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen: dict[str, str] = {}
        self._rows_of_file: dict[str, list[ResultRow]] = {}
        self._decisions: dict[tuple[str | None, ...], ResultRow] = {}
        """The last decision of a person on each page and book."""
        self._newest: list[ResultRow] = []
        self._facets: dict[str | None, Facets] = {}
        """Of each owner, for the rows in `_newest`."""
        self._read_until: datetime | None = None
        self._read_at = -REFRESH_SECONDS
        self._reading: asyncio.Task[None] | None = None
        self._expired = False
        """Was a row written that a reading which has begun may miss?"""

    async def read(self, max_wait: float = MAX_WAIT_SECONDS) -> tuple[list[ResultRow], bool]:
        """The rows, the newest first, and whether these are all.

        Args:
            max_wait: Seconds after which the rows that are known are returned.

        Raises:
            Transient: the ledger is unreachable, and nothing of it is known.
        """
        if self._expired and self._read_until is not None and self._reading is not None:
            await asyncio.wait({self._reading}, timeout=max_wait)
            self._finish_reading(self._reading)
        reading = self._reading
        if reading is None and (self._expired or time.monotonic() - self._read_at >= REFRESH_SECONDS):
            self._expired = False
            reading = self._reading = asyncio.create_task(asyncio.to_thread(self._refresh))
        if reading is not None:
            # The first reading of a large ledger takes long: once rows are known, they are shown.
            patience = 0.0 if self._newest and self._read_until is None else max_wait
            await asyncio.wait({reading}, timeout=patience)
            self._finish_reading(reading)
        return self._newest, self._read_until is not None

    def _finish_reading(self, reading: asyncio.Task[None]) -> None:
        if reading.done() and self._reading is reading:
            self._reading, self._read_at = None, time.monotonic()
            self._raise_or_log(reading.exception())

    def expire(self) -> None:
        """The next request reads the ledger: a row was written."""
        self._expired = True

    def name_of(self, job_id: str) -> str | None:
        """The source of the newest page with this id, as far as the ledger was read."""
        return next((row.source for row in self._newest if row.job_id == job_id), None)

    def _raise_or_log(self, error: BaseException | None) -> None:
        if error is None:
            return
        if not isinstance(error, Transient) or self._read_until is None:
            raise error
        logger.warning("results not updated: %s", error)

    def _refresh(self) -> None:
        """Read what was written since the last time; the whole ledger the first time."""
        began = datetime.now(UTC)
        unlisted = 0
        for name, table in self._ledger.read_changed(self._read_until, self._seen):
            found = table.select([*ResultRow.model_fields]).to_pylist()
            for row in found:
                if row["status"] == REVIEWED:
                    self._add_decision(_row_of({**row, "status": "success"}))
            rows = [_row_of(row) for row in found if row["status"] != REVIEWED]
            # A job that is repeated on the next day has a file of the same name in the folder of that day.
            key = name if rows and rows[0].book is not None else name.rpartition("/")[2]
            self._rows_of_file[key] = rows
            unlisted += len(found)
            if unlisted >= _ROWS_BETWEEN_LISTS:
                self._list_rows()
                unlisted = 0
        if unlisted or self._read_until is None:
            self._list_rows()
        self._read_until = began

    def _add_decision(self, row: ResultRow) -> None:
        before = self._decisions.get(_subject_of(row))
        if before is None or before.recorded_at <= row.recorded_at:
            self._decisions[_subject_of(row)] = row

    def _with_decision(self, row: ResultRow) -> ResultRow:
        """A page with what a person decided on it, unless it was processed again since."""
        decision = self._decisions.get(_subject_of(row)) if row.review is not None else None
        if decision is None or decision.recorded_at < row.recorded_at:
            return row
        fields = _REVIEW_FIELDS if row.book is not None else _DECIDED_FIELDS
        return row.model_copy(update={name: getattr(decision, name) for name in fields})

    def _list_rows(self) -> None:
        rows = (self._with_decision(row) for rows in self._rows_of_file.values() for row in rows)
        self._newest = sorted(rows, key=lambda row: (row.recorded_at, row.page_number or 0), reverse=True)
        self._facets = {}

    async def find(self, query: ResultQuery, owner: str | None) -> ResultList:
        """The results of an owner that a query accepts; None: of all owners.

        Raises:
            Transient: as `read`.
        """
        rows, complete = await self.read()
        mine = rows if owner is None else [row for row in rows if row.owner == owner]
        found = query.select(mine)
        facets = self._facets_of(owner, rows, mine)
        shown = tuple(found[query.offset : query.offset + query.limit])
        return ResultList(
            results=shown, total=len(found), limit=query.limit, offset=query.offset,
            facets=facets, complete=complete,
        )  # fmt: skip

    async def find_unresolved(self, owner: str | None, limit: int) -> tuple[tuple[ResultRow, ...], bool]:
        """The failed pages of an owner that were not delivered since, the newest first, and whether these are all that are known;
        None: of all owners.

        Raises:
            Transient: as `read`.
        """
        rows, complete = await self.read()
        delivered: set[tuple[str | None, ...]] = set()
        found: list[ResultRow] = []
        for row in rows:
            if owner not in (None, row.owner):
                continue
            page = (row.owner, row.source, row.comic_id, row.panel_id)
            if row.status == "success":
                delivered.add(page)
            elif page not in delivered or not _names_one_page(row):
                found.append(row)
                if len(found) == limit:
                    break
        return tuple(found), complete

    async def find_recent(self, owner: str | None, limit: int) -> tuple[ResultRow, ...]:
        """The pages of an owner that were delivered last, without those of books; None: of all owners.

        Raises:
            Transient: as `read`.
        """
        rows, _ = await self.read()
        wanted = (
            row for row in rows
            if row.status == "success" and row.job_id and row.book is None and owner in (None, row.owner)
        )  # fmt: skip
        return tuple(islice(wanted, limit))

    async def summarize_day(self, owner: str | None, budget: float | None) -> DaySummary:
        """The pages of this day of an owner; None: of all owners.

        Raises:
            Transient: as `read`.
        """
        today = datetime.now(UTC).date()
        rows, _ = await self.read()
        # The newest rows are first.
        recent = takewhile(lambda row: row.recorded_at.date() == today, rows)
        mine = [row for row in recent if owner in (None, row.owner)]
        failed = sum(row.status == "error" for row in mine)
        cost = sum(row.cost or 0.0 for row in mine)
        return DaySummary(
            day=today, delivered=len(mine) - failed, failed=failed, cost=round(cost, 4), budget=budget
        )

    def _facets_of(self, owner: str | None, rows: list[ResultRow], mine: list[ResultRow]) -> Facets:
        facets = self._facets.get(owner)
        if facets is None:
            facets = _count_values(mine)
            if rows is self._newest:  # the thread that reads has not replaced them
                self._facets[owner] = facets
        return facets

    def count_pending(self, owner: str | None) -> int:
        """Pages of an owner that wait for review, as far as the ledger was read."""
        rows = self._newest
        mine = rows if owner is None else [row for row in rows if row.owner == owner]
        return self._facets_of(owner, rows, mine).reviews.get("pending", 0)


def _subject_of(row: ResultRow) -> tuple[str | None, ...]:
    """What a person decides on: a page by its job, or a book."""
    return (row.owner, row.job_id) if row.book is None else ("book", row.out, None)


def _names_one_page(row: ResultRow) -> bool:
    """Does the source in the row name one page? That of a web address has no query, that of a data URI no content."""
    source = row.source or ""
    return (
        bool(source)
        and not source.startswith("data:")
        and (row.panel_id is not None or not source.startswith(("https:", "http:")))
    )


def _row_of(row: dict[str, Any]) -> ResultRow:
    return ResultRow.model_construct(**{name: row[name] for name in ResultRow.model_fields})


def _searched(row: ResultRow) -> str:
    """What `ResultQuery.text` is searched in."""
    places = (row.source, row.job_id, row.panel_id, row.comic_id, row.page, row.book)
    return "\n".join(place for place in places if place).casefold()


def _count_values(rows: list[ResultRow]) -> Facets:
    return Facets(
        tools=_count(row.tool for row in rows),
        comics=_count(row.comic_id for row in rows),
        books=_count(row.book for row in rows),
        routes=_count(row.route for row in rows),
        reviews=_count(row.review for row in rows if row.book is None),
    )


def _count(values: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(value for value in values if value).most_common(_MAX_FACETS))
