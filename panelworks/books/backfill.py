"""A backfill: the books of an archive that are not finished, with an estimate of the time, bytes and cost."""

import shutil
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from panelworks.accounting.budget import Budget, Halt
from panelworks.accounting.ledger import open_ledger, price_device_seconds
from panelworks.books.pipeline import pages_of
from panelworks.books.register import BookRegister
from panelworks.books.shelf import ShelvedBook, find_books, open_book, skipped_entries
from panelworks.domain.books import BookOptions, BookRequest, BookResult, Refusal
from panelworks.domain.fields import Frozen
from panelworks.errors import Misconfigured, PanelworksError, Rejected
from panelworks.settings import Settings
from panelworks.storage.location import Location

if TYPE_CHECKING:
    import pandas as pd


class Limits:
    """Limits of a backfill: the end of its time window, and budgets."""

    def __init__(self, end: datetime | None, budget: Budget) -> None:
        """No book is started after `end`; None: at any time."""
        self._end = end
        self.budget = budget

    def reached(self, now: datetime) -> Halt | None:
        """The limit that prevents another book; None if no limit is reached.

        Raises:
            Transient: the ledger, which records the cost, is unavailable.
        """
        if self._end is not None and now >= self._end:
            return Halt(reason="the window ends", until=None)
        return self.budget.reached(now)


FATAL_BACKFILL_CODES: Final = frozenset(
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
"""Codes of errors that every further book would raise as well: they end the backfill."""
_ESTIMATE_PAGES: Final = 5000
"""The estimate uses this number of latest pages in the ledger."""
_MIN_BYTES_GROWTH: Final = 0.5
"""Lower bound of the growth in bytes of a book, as a share of the growth of its area."""


class Backfill(Frozen):
    """The request of a backfill: an archive, the destination of its finished books, and options."""

    archive: str
    out: str
    options: BookOptions = BookOptions()
    budget: float | None = None
    """US dollars. No further book is started once the books of the run cost this amount."""
    force: bool = False


class Expectation(Frozen):
    """The estimate of a backfill, based on earlier pages."""

    books: int
    """Books that are not finished."""
    done: int
    """Books that are finished."""
    pages: int | None
    """Pages of the unfinished books, including cached ones; None if the books were not opened."""
    bytes: int
    """Of the sources of the unfinished books."""
    seconds: float | None
    """None if the ledger contains no earlier page."""
    bytes_out: int | None
    cost: float | None = None
    """US dollars of that time in this pool; None without a price."""
    pool: str | None = None
    unusable: str | None = None
    """Why the results cannot be written, for example a full disk or a missing bucket."""
    unreadable: tuple[str, ...] = ()
    """Books that cannot be opened, with the reason."""
    replaced: int = 0
    """Books that were published before with other options or from another source file, and are replaced."""


def requests_of(backfill: Backfill, settings: Settings, run_id: str) -> list[BookRequest]:
    """A request for each book, finished or not, in natural order. Books whose parser was killed earlier come last.

    The destination is a folder, or for one book its file.

    Raises:
        Rejected: `not_found`; `bad_request`, several books have one file as their destination.
        Misconfigured: `out_is_source`. Transient: the bucket does not answer.
    """
    out = Location.parse(backfill.out).absolute()
    books = find_books(backfill.archive, settings, without=str(out))
    if backfill.out.lower().endswith(".cbz"):
        if len(books) != 1:
            raise Rejected("bad_request", f"{backfill.out} is the file of one book; name a folder.")
        return [_request(books[0], out, backfill, run_id).model_copy(update={"out": str(out)})]
    return BookRegister(settings).costly_last([_request(book, out, backfill, run_id) for book in books])


def skipped_entries_of(backfill: Backfill) -> tuple[Refusal, ...]:
    """The entries of the archive that cannot be listed as books; see `shelf.skipped_entries`."""
    return skipped_entries(backfill.archive, without=str(Location.parse(backfill.out).absolute()))


def request_of(
    source: str, out: str, options: BookOptions, settings: Settings, run_id: str, *, force: bool
) -> BookRequest:
    """A request for one book.

    Args:
        source: Its archive, or the folder of its pages.
        out: The finished CBZ, or the folder or prefix for it.

    Raises:
        Rejected: `not_found`. Transient: the bucket does not answer.
    """
    backfill = Backfill(archive=source, out=out, options=options, force=force)
    address = str(Location.parse(source).absolute()).rstrip("/")
    book = next((one for one in find_books(source, settings) if one.source == address), None)
    if book is None:
        raise Rejected("not_found", f"There is no book at {source}.")
    place = Location.parse(out).absolute()
    request = _request(book, place, backfill, run_id)
    return request.model_copy(update={"out": str(place)}) if out.lower().endswith(".cbz") else request


def done_before(requests: Sequence[BookRequest], settings: Settings) -> dict[str, BookResult]:
    """Results of the finished books, by the destination."""
    register = BookRegister(settings)
    known = {request.out: register.known(request) for request in requests if not request.force}
    return {out: result for out, result in known.items() if result is not None}


def unfinished_requests(requests: Sequence[BookRequest], settings: Settings) -> list[BookRequest]:
    """The requests whose books are not finished."""
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


def check_free_space(requests: Sequence[BookRequest], out: str, settings: Settings) -> None:
    """Refuse work whose results cannot fit on the disk.

    Raises:
        Misconfigured: `disk_full`.
    """
    largest = max((request.source_bytes for request in requests), default=0)
    results = sum(
        request.source_bytes * _growth(request, settings) * _MIN_BYTES_GROWTH for request in requests
    )
    # The store contains the pages of a book until it is bound. A book of a bucket is copied to the cache folder.
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
                f" {free / 1e9:.1f} GB left. Free some space, or choose another destination.",
            )


def _growth(request: BookRequest, settings: Settings) -> float:
    """Growth of the area of a page, as far as it is known before the page is decoded."""
    if request.options.longest_side or request.options.height:
        return 1.0
    scale = request.options.page.scale or settings.upscale_scale
    return 1.0 if scale == "auto" else scale * scale


def estimate_work(
    requests: Sequence[BookRequest], settings: Settings, *, max_opened: int | None = None
) -> Expectation:
    """Estimate the unfinished work. Local books are opened and their pages counted; nothing is unpacked.

    If more than `max_opened` books are unfinished, none is opened, and pages and time are unknown.
    """
    todo, register = unfinished_requests(requests, settings), BookRegister(settings)
    pages, unreadable = 0, []
    counted = not any(Location.parse(request.source).is_in_bucket for request in todo)
    counted &= max_opened is None or len(todo) <= max_opened
    for request in todo if counted else ():
        try:
            with open_book(request.source, settings) as archive:
                pages += len(list(pages_of(archive)))
        except PanelworksError as error:
            unreadable.append(f"{request.source}: {error.message} [{error.code}]")
    seconds, growth = _measured_figures(settings)
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
        replaced=sum(register.is_published(request.out) for request in todo),
    )


def _measured_figures(settings: Settings) -> tuple[float | None, float | None]:
    """Wall-clock seconds of a page of a book, and the ratio of the bytes of results to those of sources.

    They come from the latest pages of books. Before the first book, the seconds come from single pages; the size of their
    lossless results does not predict the size of a book.
    """
    rows = open_ledger(settings).read()
    rows = rows[rows["status"] == "success"]
    of_books = rows[rows["book"].notna()].tail(_ESTIMATE_PAGES)
    if of_books.empty:
        return _mean_seconds(rows.tail(_ESTIMATE_PAGES)), None
    # Pages of a book are processed in parallel: each takes longer than its share of the wall-clock time.
    seconds = _mean_seconds(of_books)
    growth = float(of_books["bytes"].sum() / max(1, of_books["source_bytes"].sum()))
    return None if seconds is None else seconds / settings.book_threads, growth


def _mean_seconds(rows: "pd.DataFrame") -> float | None:
    """Mean of the computed pages; None if there are none."""
    computed = rows[~rows["cached"].astype(bool)]
    return None if computed.empty else float(computed["seconds"].mean())


class Window(Frozen):
    """The hours in which new books are started. Books in progress are finished after it."""

    until: time
    """Local time of its end."""

    def end(self, now: datetime) -> datetime:
        """The end of the window that contains `now`, a time with time zone."""
        end = now.replace(
            hour=self.until.hour, minute=self.until.minute, second=self.until.second, microsecond=0
        )
        return end if end > now else end + timedelta(days=1)
