"""`panelworks backfill`: an archive of books, in this process or as a run of the pipeline."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from panelworks.accounting.budget import Budget
from panelworks.accounting.cost import price_per_hour
from panelworks.books.backfill import (
    HOPELESS,
    Backfill,
    Expectation,
    Limits,
    Window,
    done_before,
    expected,
    left_out_of,
    refuse_too_little_room,
    requests_of,
    waiting,
)
from panelworks.books.direct import enhance_book_directly
from panelworks.books.register import BookRegister
from panelworks.cli.enhance import Flow, check_options
from panelworks.cli.options import Json, with_options
from panelworks.cli.output import addressed, print_json
from panelworks.cli.pipeline import find_pipeline, require_pipeline
from panelworks.domain.books import BackfillSummary, BookOptions, BookRequest, BookResult, Refusal
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import NOT_READABLE, Misconfigured, Transient
from panelworks.page.direct import new_job_id
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from panelworks.storage import check_places
from panelworks.text import to_printable

_PROGRESS_INTERVAL_SECONDS: Final = 10.0
"""Between two lines about the pages of a book, where no terminal shows a bar."""
_PAUSE_SECONDS: Final = 5.0
"""Between two looks whether a new day's budget has begun."""


_PAGE_OPTIONS: Final = ("scale", "model", "fix_artifacts", "descreen", "denoise", "colour", "accept_damaged")
"""Options of pages that books have as well."""


@with_options(
    EnhanceOptions, without=set(EnhanceOptions.model_fields) - set(_PAGE_OPTIONS), name="page_options"
)
@with_options(BookOptions, without=("page",), name="book_options")
def backfill(
    archive: Annotated[
        str,
        typer.Argument(
            help="Folder or s3://bucket/prefix with books in it, at any depth (CBZ, CBR, CB7, CBT, PDF, EPUB, ZIP, RAR,"
            " 7Z, TAR, folders of pages); or one book.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(help="Folder or s3://bucket/prefix for the finished CBZ files; the tree is mirrored."),
    ],
    page_options: EnhanceOptions,
    book_options: BookOptions,
    until: Annotated[
        str | None, typer.Option(metavar="HH:MM", help="Start no further book after this time of day.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.01, metavar="USD", help="Start no further book once the books of this run cost as much."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what would be done, how long it takes and how large it gets."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Process books and pages again even when they are done.")
    ] = False,
    flow: Flow = None,
    json: Json = False,
) -> None:
    """Enhance an archive of books: each becomes a CBZ, page by page; what is done is skipped.

    Interrupt it when you like, or pull the plug: the same command resumes with the page it was at. When the day's budget
    (PANELWORKS_BUDGET_PER_DAY) is spent, it waits for the next day.
    Exit code: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    check_options(page_options)
    options = book_options.model_copy(update={"page": page_options})
    asked = Backfill(
        archive=addressed(archive), out=addressed(out), options=options, budget=budget, force=force
    )
    window = window_of(until) if until else None
    if dry_run:
        code = tell_expectation(asked, json=json)
    elif _as_run(flow):
        code = backfill_with_flow(asked, until, json=json)
    else:
        code = backfill_directly(asked, window, json=json)
    raise typer.Exit(code)


def _as_run(flow: bool | None) -> bool:
    """Is it a run of the pipeline: because that was asked for, or because a server is configured?"""
    if flow:
        require_pipeline("--flow")
    pipeline = find_pipeline()
    return pipeline is not None and (pipeline.server_url() is not None if flow is None else flow)


def window_of(text: str) -> Window:
    """The window that ends at `HH:MM`.

    Raises:
        Misconfigured: `bad_time`.
    """
    try:
        return Window(until=datetime.strptime(text, "%H:%M").time())
    except ValueError as error:
        raise Misconfigured("bad_time", "A time of day reads like 06:30.") from error


def tell_expectation(backfill: Backfill, *, json: bool) -> int:
    """Print what a backfill would do; returns the exit code."""
    settings = get_settings()
    requests = requests_of(backfill, settings, "")
    expectation = expected(requests, settings)
    try:
        check_places((backfill.out, settings.store_location), settings)
        refuse_too_little_room(waiting(requests, settings), backfill.out, settings)
    except (Misconfigured, Transient) as error:
        expectation = expectation.model_copy(update={"unusable": error.message})
    refused = left_out_of(backfill)
    unread = tuple(f"{one.name}: {one.message} [{one.code}]" for one in refused if one.code == NOT_READABLE)
    expectation = expectation.model_copy(update={"unreadable": (*expectation.unreadable, *unread)})
    _print_left_out(one for one in refused if one.code != NOT_READABLE)
    if json:
        print_json(expectation.model_dump())
    else:
        print(_sentence(expectation))
        if backfill.budget is not None and (expectation.cost or 0) > backfill.budget:
            print(f"That is more than the budget of {backfill.budget:.2f} USD.")
        print("\n".join(map(to_printable, filter(None, (expectation.unusable, *expectation.unreadable)))))
    return 1 if expectation.unreadable or expectation.unusable else 0


def _sentence(expectation: Expectation) -> str:
    pages = f"{expectation.pages} pages, " if expectation.pages is not None else ""
    sentence = f"{expectation.books} books to do ({pages}{expectation.bytes / 1e6:.1f} MB), {expectation.done} done already."
    if expectation.seconds is not None:
        sentence += f" About {_duration(expectation.seconds)} of the device"
        if expectation.cost is not None:
            sentence += f", {expectation.cost:.2f} USD on {expectation.pool or 'this machine'},"
        sentence += (
            f" and {expectation.bytes_out / 1e6:.1f} MB." if expectation.bytes_out is not None else "."
        )
    else:
        sentence += " The time and size are not known until a first page or book has been processed here."
    return sentence


def _print_left_out(refused: Iterable[Refusal]) -> None:
    """What the walk of the archive did not reach: no book of it is known, so that no result names it."""
    for one in refused:
        print(f"{to_printable(one.name)}: left out. {one.message} [{one.code}]", file=sys.stderr)


def backfill_directly(backfill: Backfill, window: Window | None, *, json: bool) -> int:
    """Process all books in this process, one after the other; returns the exit code."""
    settings, run_id = get_settings(), new_job_id()
    requests = requests_of(backfill, settings, run_id)
    known = done_before(requests, settings)
    todo, done = [request for request in requests if request.out not in known], list(known.values())
    check_places((backfill.out, settings.store_location), settings)
    refuse_too_little_room(todo, backfill.out, settings)
    refused = left_out_of(backfill)
    _print_left_out(refused)
    for result in done:
        _print(result, json=json)
    budget = Budget(settings, get_engine().ledger, run_id=run_id, of_run=backfill.budget)
    if budget.exists and price_per_hour(settings) is None:
        raise Misconfigured(
            "no_price",
            "A budget needs a price: set PANELWORKS_GPU_PRICE_PER_HOUR, or the pool in PANELWORKS_PRICES.",
        )
    end = window.end(datetime.now().astimezone()) if window else None
    results, interrupted = _run(todo, Limits(end, budget), json=json)
    if not requests:
        print("There is no book here.", file=sys.stderr)
    elif not json:
        print(_summary([*done, *results], len(requests)), file=sys.stderr)
    if interrupted:
        return 130
    is_complete = all(result.status == "success" for result in (*done, *results))
    return int(not is_complete or any(one.code == NOT_READABLE for one in refused))


def backfill_with_flow(backfill: Backfill, until: str | None, *, json: bool) -> int:
    """Run the pipeline's backfill; returns the exit code."""
    try:
        summary = require_pipeline("--flow").backfill(backfill, until)
    except KeyboardInterrupt:
        print("Stopped. What is done is kept; the same command goes on from here.", file=sys.stderr)
        return 130
    _print_summary(summary, json=json)
    return 1 if summary.failed or summary.incomplete or summary.unlisted else 0


def _print_summary(summary: BackfillSummary, *, json: bool) -> None:
    if json:
        print_json(summary.model_dump())
        return
    print(
        f"{summary.books} books: {summary.done} done now, {summary.done_before} before, {len(summary.failed)} failed,"
        f" {summary.left} left{f' ({summary.stopped})' if summary.stopped else ''}."
    )
    for book, why in summary.failed.items():
        print(to_printable(f"{book}: {why}"))
    for book in summary.incomplete:
        print(
            f"{to_printable(book)}: incomplete: a part of it could not be read; the result of its run names it"
        )
    for name, why in summary.unlisted.items():
        print(f"{to_printable(name)}: left out. {why}")


def _closed(limits: Limits, tell: Callable[[str], None]) -> str | None:
    """Why no further book is begun, if so. Waits for the next day's budget, and says so once."""
    told = False
    while True:
        limit = limits.reached(datetime.now().astimezone())
        if limit is None or limit.until is None:
            return limit.reason if limit else None
        if not told:
            tell(f"{limit.reason}: paused until {limit.until:%H:%M} UTC")
            told = True
        time.sleep(_PAUSE_SECONDS)


def _run(todo: Sequence[BookRequest], limits: Limits, *, json: bool) -> tuple[list[BookResult], bool]:
    """The results, and whether somebody interrupted it. A book that stopped its parser is tried once more, last."""
    engine, results = get_engine(), list[BookResult]()
    register, waiting, retried = BookRegister(engine.settings), deque(todo), set[str]()
    engine.tidy(*{request.out.rpartition("/")[0] for request in todo})
    with _bars() as bars:
        books = bars.add_task("books", total=len(todo))
        pages = _PageProgress(bars, len(todo))
        while waiting:
            request = waiting.popleft()
            try:
                if (why := _closed(limits, bars.console.print)) is not None:
                    bars.stop()
                    print(f"No further book is begun: {why}.", file=sys.stderr)
                    break
                pages.begin(len(results) + 1, to_printable(request.source.rpartition("/")[2]))
                result = enhance_book_directly(request, engine, pages.show)
            except KeyboardInterrupt:
                bars.stop()
                print(
                    f"Stopped after {len(results)} of {len(todo)} books. Finished pages are kept;"
                    " the same command goes on from here.",
                    file=sys.stderr,
                )
                return results, True
            if result.error is not None and request.source not in retried and register.is_costly(request):
                retried.add(request.source)
                waiting.append(request)
                print(
                    f"{to_printable(request.source)} is retried last: {to_printable(result.error.message)}",
                    file=sys.stderr,
                )
                continue
            results.append(result)
            _print(result, json=json)
            bars.advance(books)
            if result.error is not None and result.error.code in HOPELESS:
                break
    return results, False


class _PageProgress:
    """Pages of the current book, as a bar on a terminal, elsewhere as a line from time to time."""

    def __init__(self, bars: Progress, books: int) -> None:
        self._bars = bars
        self._task = bars.add_task("pages", total=None, visible=False)
        self._books = books
        self._began = self._reported = time.monotonic()
        self._label = ""

    def begin(self, number: int, name: str) -> None:
        """Start with the book of this number, counted from 1."""
        self._label = f"book {number} of {self._books}, {name}"
        self._began = self._reported = time.monotonic()
        self._bars.update(self._task, description=name[-40:], visible=True)
        self._bars.reset(self._task, total=None)
        if self._bars.disable:
            print(f"{self._label}: started", file=sys.stderr, flush=True)

    def show(self, done: int, count: int) -> None:
        """So many pages of `count` have ended."""
        self._bars.update(self._task, completed=done, total=count)
        now = time.monotonic()
        if self._bars.disable and now - self._reported >= _PROGRESS_INTERVAL_SECONDS and 0 < done < count:
            self._reported = now
            left = (now - self._began) / done * (count - done)
            print(
                f"{self._label}: page {done} of {count}, about {_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )


def _print(result: BookResult, *, json: bool) -> None:
    if json:
        print_json(result.model_dump(mode="json"))
        return
    name = to_printable(result.source.rpartition("/")[2])
    if result.error is not None:
        print(f"{name}: {to_printable(result.error.message)} [{result.error.code}]", flush=True)
    elif result.skipped:
        print(f"{name}: done before{_loss(result)}", flush=True)
    else:
        states = ", ".join(f"{count} {state}" for state, count in result.states.items())
        known = f", {result.cached} known before" if result.cached else ""
        rate = result.pages / result.seconds if result.seconds else 0.0
        print(
            f"{name}: {result.pages} pages ({states}{known}), {result.bytes_before / 1e6:.1f} ->"
            f" {result.bytes_after / 1e6:.1f} MB, {result.seconds:.1f} s, {rate:.2f} pages/s{_loss(result)}\n"
            f"    {to_printable(result.out)}",
            flush=True,
        )
    for note in result.notes:
        print(f"    {to_printable(note)}", flush=True)
    for refusal in result.refused:
        print(f"    {to_printable(refusal.name)}: {refusal.message} [{refusal.code}]", flush=True)


def _loss(result: BookResult) -> str:
    """How much of the source is missing in the book, for the end of its line."""
    return f", incomplete: {result.lost} files are missing" if result.status == "incomplete" else ""


def _summary(results: Sequence[BookResult], count: int) -> str:
    failed = sum(result.status == "error" for result in results)
    skipped = sum(result.skipped for result in results)
    incomplete = sum(result.status == "incomplete" for result in results)
    pages = sum(result.pages for result in results if not result.skipped)
    return (
        f"{count} books: {len(results) - failed - skipped} done now, {skipped} before, {failed} failed,"
        f" {count - len(results)} left; {f'{incomplete} incomplete; ' if incomplete else ''}{pages} pages."
    )


def _duration(seconds: float) -> str:
    return (
        time.strftime("%H:%M:%S", time.gmtime(seconds))
        if seconds < 86_400
        else f"{seconds / 86_400:.1f} days"
    )


def _bars() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
