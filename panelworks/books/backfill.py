"""A backfill: every book of an archive that is not done yet, with what it will take."""

import shutil
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from panelworks.accounting.budget import Budget, Halt
from panelworks.accounting.ledger import open_ledger, price_device_seconds
from panelworks.books.pipeline import pages_of
from panelworks.books.register import BookRegister
from panelworks.books.shelf import ShelvedBook, books_in, left_out, opened
from panelworks.domain.books import BookOptions, BookRequest, BookResult, Refusal
from panelworks.domain.fields import Frozen
from panelworks.errors import Misconfigured, PanelworksError, Rejected
from panelworks.settings import Settings
from panelworks.storage.location import Location

if TYPE_CHECKING:
    import pandas as pd


class Limits:
    """The end of a window, and budgets."""

    def __init__(self, end: datetime | None, budget: Budget) -> None:
        """After `end` no book is begun; None: at any time."""
        self._end = end
        self.budget = budget

    def reached(self, now: datetime) -> Halt | None:
        """The limit that stands in the way of another book, if one does.

        Raises:
            Transient: the ledger, which knows what was spent, cannot be reached now.
        """
        if self._end is not None and now >= self._end:
            return Halt(reason="the window ends", until=None)
        return self.budget.reached(now)


HOPELESS: Final = frozenset(
    {
        "disk_full",
        "not_writable",
        "no_bucket",
        "s3_denied",
        "weights_missing",
        "missing_package",
        "no_runtime",
    }
)
"""Codes of errors that the next book would meet as well: a backfill ends there."""
_EXPERIENCE_PAGES: Final = 5000
"""Latest pages of the ledger that a forecast is made from."""
_LEAST_GROWTH: Final = 0.5
"""Bytes of a finished book over those of its source, for each time that its area grows: fewer are not to be had."""


class Backfill(Frozen):
    """What is asked for: an archive, where its finished books go, and how."""

    archive: str
    out: str
    options: BookOptions = BookOptions()
    budget: float | None = None
    """US dollars; no further book is begun once the books of the run cost as much."""
    force: bool = False


class Expectation(Frozen):
    """What a backfill will take, from what earlier pages took."""

    books: int
    """Books to do."""
    done: int
    """Books that are done already."""
    pages: int | None
    """Pages to do, known pages among them; None while books lie in a bucket and were not opened."""
    bytes: int
    """Of the sources to do."""
    seconds: float | None
    """None without an earlier page to tell from."""
    bytes_out: int | None
    cost: float | None = None
    """US dollars of that time on this pool; None without a price."""
    pool: str | None = None
    unusable: str | None = None
    """Why the results surely cannot be written, for example a full disk or a missing bucket."""
    unreadable: tuple[str, ...] = ()
    """Books that cannot be opened, with the reason."""


def requests_of(backfill: Backfill, settings: Settings, run_id: str) -> list[BookRequest]:
    """A request for each book, done or not, in natural order; those whose parser was killed before come last.

    Raises:
        Rejected: `not_found`. Misconfigured: `out_is_source`. Transient: the bucket did not answer.
    """
    out = Location.parse(backfill.out).absolute()
    books = books_in(backfill.archive, settings, without=str(out))
    return BookRegister(settings).costly_last([_request(book, out, backfill, run_id) for book in books])


def left_out_of(backfill: Backfill) -> tuple[Refusal, ...]:
    """What lies in the archive and is no book that can be listed; see `shelf.left_out`."""
    return left_out(backfill.archive, without=str(Location.parse(backfill.out).absolute()))


def request_of(
    source: str, out: str, options: BookOptions, settings: Settings, run_id: str, *, force: bool
) -> BookRequest:
    """A request for one book.

    Args:
        source: Its archive, or the folder of its pages.
        out: The finished CBZ, or a folder or prefix that receives it.

    Raises:
        Rejected: `not_found`. Transient: the bucket did not answer.
    """
    asked = Backfill(archive=source, out=out, options=options, force=force)
    address = str(Location.parse(source).absolute()).rstrip("/")
    book = next((one for one in books_in(source, settings) if one.source == address), None)
    if book is None:
        raise Rejected("not_found", f"There is no book at {source}.")
    place = Location.parse(out).absolute()
    request = _request(book, place, asked, run_id)
    return request.model_copy(update={"out": str(place)}) if out.lower().endswith(".cbz") else request


def done_before(requests: Sequence[BookRequest], settings: Settings) -> dict[str, BookResult]:
    """Results of the books that are done already, by the place of the finished book."""
    register = BookRegister(settings)
    known = {request.out: register.known(request) for request in requests if not request.force}
    return {out: result for out, result in known.items() if result is not None}


def waiting(requests: Sequence[BookRequest], settings: Settings) -> list[BookRequest]:
    """Those that are not done yet."""
    done = done_before(requests, settings)
    return [request for request in requests if request.out not in done]


def _request(book: ShelvedBook, out: Location, backfill: Backfill, run_id: str) -> BookRequest:
    return BookRequest(
        source=book.source,
        out=str(out.joined(book.name)),
        options=backfill.options,
        fingerprint=book.fingerprint,
        source_bytes=book.bytes,
        run_id=run_id,
        force=backfill.force,
    )


def refuse_too_little_room(requests: Sequence[BookRequest], out: str, settings: Settings) -> None:
    """Say before the work that the disk cannot hold its results, when that is sure.

    Raises:
        Misconfigured: `disk_full`.
    """
    largest = max((request.source_bytes for request in requests), default=0)
    results = sum(request.source_bytes * _growth(request, settings) * _LEAST_GROWTH for request in requests)
    # The store holds a book's pages until it is bound; a copy of a bucket's book lies in the cache folder.
    needs = [(out, results), (settings.store_location, 2 * largest), (str(settings.cache_dir), largest)]
    for place, needed in needs:
        location = Location.parse(place)
        if location.is_in_bucket:
            continue
        folder = location.absolute_path
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise Misconfigured(
                "disk_full",
                f"The work needs {needed / 1e9:.1f} GB or more in {place}, and the disk of {folder} has"
                f" {free / 1e9:.1f} GB left. Make room, or name another place.",
            )


def _growth(request: BookRequest, settings: Settings) -> float:
    """How many times larger the area of a page becomes, as far as that is known before it was looked at."""
    if request.options.longest_side or request.options.height:
        return 1.0
    scale = request.options.page.scale or settings.upscale_scale
    return scale * scale


def expected(requests: Sequence[BookRequest], settings: Settings) -> Expectation:
    """What is to do. Local books are opened and their pages counted; nothing is unpacked."""
    todo = waiting(requests, settings)
    pages, unreadable = 0, []
    counted = not any(Location.parse(request.source).is_in_bucket for request in todo)
    for request in todo if counted else ():
        try:
            with opened(request.source, settings) as archive:
                pages += len(list(pages_of(archive)))
        except PanelworksError as error:
            unreadable.append(f"{request.source}: {error.message} [{error.code}]")
    seconds, growth = _experience(settings)
    source_bytes = sum(request.source_bytes for request in todo)
    spent = pages * seconds if counted and seconds is not None else None
    return Expectation(
        books=len(todo),
        done=len(requests) - len(todo),
        pages=pages if counted else None,
        bytes=source_bytes,
        seconds=None if spent is None else round(spent, 1),
        cost=None if spent is None else price_device_seconds(spent, settings),
        pool=settings.pool,
        bytes_out=round(source_bytes * growth) if growth is not None else None,
        unreadable=tuple(unreadable),
    )


def _experience(settings: Settings) -> tuple[float | None, float | None]:
    """Seconds on the clock that a page of a book takes, and the bytes of results over those of their sources.

    Learned from the latest pages of books. Before the first book, single pages give the seconds; their results are
    lossless, so that they say nothing of a book's bytes.
    """
    rows = open_ledger(settings).read()
    rows = rows[rows["status"] == "success"]
    of_books = rows[rows["book"].notna()].tail(_EXPERIENCE_PAGES)
    if of_books.empty:
        return _mean_seconds(rows.tail(_EXPERIENCE_PAGES)), None
    # Pages of a book are processed side by side, so that each takes longer than its share of the clock.
    seconds = _mean_seconds(of_books)
    growth = float(of_books["bytes"].sum() / max(1, of_books["source_bytes"].sum()))
    return None if seconds is None else seconds / settings.book_threads, growth


def _mean_seconds(rows: "pd.DataFrame") -> float | None:
    """Mean of the pages that were computed; None without any."""
    computed = rows[~rows["cached"].astype(bool)]
    return None if computed.empty else float(computed["seconds"].mean())


class Window(Frozen):
    """The hours in which new books are begun; what is under way is finished."""

    until: time
    """Local time at which it ends."""

    def end(self, now: datetime) -> datetime:
        """When the window ends that `now`, with a time zone, lies in."""
        end = now.replace(
            hour=self.until.hour, minute=self.until.minute, second=self.until.second, microsecond=0
        )
        return end if end > now else end + timedelta(days=1)
