"""`panelworks backfill`: enhance an archive of books in this process or as a run of the pipeline."""

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
from panelworks.accounting.ledger import device_price_per_hour
from panelworks.books.backfill import (
    FATAL_BACKFILL_CODES,
    Backfill,
    Expectation,
    Limits,
    Window,
    check_free_space,
    done_before,
    estimate_work,
    requests_of,
    skipped_entries_of,
    unfinished_requests,
)
from panelworks.books.direct import enhance_book_directly
from panelworks.books.register import BookRegister
from panelworks.cli.enhance import Flow, check_options
from panelworks.cli.options import Json, with_options
from panelworks.cli.output import argument_to_address, print_json
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
"""Interval of progress lines for the pages of a book, if there is no terminal for a progress bar."""
_BUDGET_POLL_SECONDS: Final = 5.0
"""Interval of checks for the budget of a new day."""
_PAGE_OPTIONS: Final = (
    "scale", "model", "fix_artifacts", "descreen", "denoise", "levels", "gray", "colour", "rules", "ignore_series_rule", "accept_damaged",
)  # fmt: skip
"""Options of pages that are also options of books."""


Archive = Annotated[
    str,
    typer.Argument(
        help="Folder or s3://bucket/prefix with books at any depth (CBZ, CBR, CB7, CBT, PDF, EPUB, ZIP, RAR,"
        " 7Z, TAR, folders of pages); or one book.",
        show_default=False,
    ),
]
Out = Annotated[
    str,
    typer.Option(
        help="Folder or s3://bucket/prefix for the finished CBZ files, in the same folder structure."
    ),
]


@with_options(
    EnhanceOptions, without=set(EnhanceOptions.model_fields) - set(_PAGE_OPTIONS), name="page_options"
)
@with_options(BookOptions, without=("page",), name="book_options")
def backfill(
    archive: Archive,
    out: Out,
    page_options: EnhanceOptions,
    book_options: BookOptions,
    until: Annotated[
        str | None, typer.Option(metavar="HH:MM", help="Do not start another book after this time of day.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="USD",
            help="Do not start another book once the books of this run cost this amount.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only print the number of books, the estimated time and the size of the output."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Process books and pages again even if they are done.")
    ] = False,
    flow: Flow = None,
    json: Json = False,
) -> None:
    """Enhance an archive of books page by page. Each becomes a CBZ. Finished books are skipped.

    After an interruption or a power failure, the same command continues with the page it was at. When the budget of the
    day (PANELWORKS_BUDGET_PER_DAY) is spent, it waits for the next day.
    Exit code: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    check_options(page_options)
    options = book_options.model_copy(update={"page": page_options})
    request = Backfill(
        archive=argument_to_address(archive),
        out=argument_to_address(out),
        options=options,
        budget=budget,
        force=force,
    )
    window = parse_window(until) if until else None
    if dry_run:
        code = print_expectation(request, json=json)
    elif _uses_pipeline(flow):
        code = backfill_with_flow(request, until, json=json)
    else:
        code = backfill_directly(request, window, json=json)
    raise typer.Exit(code)


def _uses_pipeline(flow: bool | None) -> bool:
    """Whether to run in the pipeline: if requested, or if a server is configured."""
    if flow:
        require_pipeline("--flow")
    pipeline = find_pipeline()
    return pipeline is not None and (pipeline.find_server_url() is not None if flow is None else flow)


def parse_window(text: str) -> Window:
    """Parse the end of a window, `HH:MM`.

    Raises:
        Misconfigured: `bad_time`.
    """
    try:
        return Window(until=datetime.strptime(text, "%H:%M").time())
    except ValueError as error:
        raise Misconfigured("bad_time", "A time of day has the form 06:30.") from error


def print_expectation(backfill: Backfill, *, json: bool) -> int:
    """Print what a backfill would do. Return the exit code."""
    settings = get_settings()
    requests = requests_of(backfill, settings, "")
    expectation = estimate_work(requests, settings)
    try:
        check_places((backfill.out, settings.store_location), settings)
        check_free_space(unfinished_requests(requests, settings), backfill.out, settings)
    except (Misconfigured, Transient) as error:
        expectation = expectation.model_copy(update={"unusable": error.message})
    refused = skipped_entries_of(backfill)
    unread = tuple(f"{one.name}: {one.message} [{one.code}]" for one in refused if one.code == NOT_READABLE)
    expectation = expectation.model_copy(update={"unreadable": (*expectation.unreadable, *unread)})
    _print_refused(one for one in refused if one.code != NOT_READABLE)
    if json:
        print_json(expectation.model_dump())
    else:
        print(_describe_expectation(expectation))
        if backfill.budget is not None and (expectation.cost or 0) > backfill.budget:
            print(f"This exceeds the budget of {backfill.budget:.2f} USD.")
        print("\n".join(map(to_printable, filter(None, (expectation.unusable, *expectation.unreadable)))))
    return 1 if expectation.unreadable or expectation.unusable else 0


def _describe_expectation(expectation: Expectation) -> str:
    pages = f"{expectation.pages} pages, " if expectation.pages is not None else ""
    sentence = f"{expectation.books} books to process ({pages}{expectation.bytes / 1e6:.1f} MB), {expectation.done} already done."
    if expectation.seconds is not None:
        sentence += f" About {_format_duration(expectation.seconds)} of the device"
        if expectation.cost is not None:
            sentence += f", {expectation.cost:.2f} USD on {expectation.pool or 'this machine'},"
        sentence += (
            f" and {expectation.bytes_out / 1e6:.1f} MB." if expectation.bytes_out is not None else "."
        )
    else:
        sentence += " Time and size are unknown until the first page or book was processed here."
    return sentence


def _print_refused(refused: Iterable[Refusal]) -> None:
    """Print the folders of the archive that could not be read. Their books are unknown, so no result names them."""
    for one in refused:
        print(f"{to_printable(one.name)}: skipped. {one.message} [{one.code}]", file=sys.stderr)


def backfill_directly(backfill: Backfill, window: Window | None, *, json: bool) -> int:
    """Process all books in this process in order. Return the exit code."""
    settings, run_id = get_settings(), new_job_id()
    requests = requests_of(backfill, settings, run_id)
    known = done_before(requests, settings)
    todo, done = [request for request in requests if request.out not in known], list(known.values())
    check_places((backfill.out, settings.store_location), settings)
    check_free_space(todo, backfill.out, settings)
    refused = skipped_entries_of(backfill)
    _print_refused(refused)
    for result in done:
        _print_result(result, json=json)
    budget = Budget(settings, get_engine().ledger, run_id=run_id, run_limit=backfill.budget)
    if budget.exists and device_price_per_hour(settings) is None:
        raise Misconfigured(
            "no_price",
            "A budget needs a price: set PANELWORKS_GPU_PRICE_PER_HOUR, or the pool in PANELWORKS_PRICES.",
        )
    end = window.end(datetime.now().astimezone()) if window else None
    results, interrupted = _enhance_books(todo, Limits(end, budget), json=json)
    if not requests:
        print("There are no books.", file=sys.stderr)
    elif not json:
        print(_format_summary([*done, *results], len(requests)), file=sys.stderr)
    if interrupted:
        return 130
    is_complete = all(result.status == "success" for result in (*done, *results))
    return int(not is_complete or any(one.code == NOT_READABLE for one in refused))


def backfill_with_flow(backfill: Backfill, until: str | None, *, json: bool) -> int:
    """Run the pipeline's backfill. Return the exit code."""
    try:
        summary = require_pipeline("--flow").backfill(backfill, until)
    except KeyboardInterrupt:
        print("Stopped. Finished books are kept; run the same command to continue.", file=sys.stderr)
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
            f"{to_printable(book)}: incomplete: parts of it could not be read; the result of its run lists them"
        )
    for name, why in summary.unlisted.items():
        print(f"{to_printable(name)}: skipped. {why}")


def _wait_for_budget(limits: Limits, report: Callable[[str], None]) -> str | None:
    """Return why no further book starts, or None. Wait for the next day's budget and report that once."""
    is_reported = False
    while True:
        limit = limits.reached(datetime.now().astimezone())
        if limit is None or limit.until is None:
            return limit.reason if limit else None
        if not is_reported:
            report(f"{limit.reason}: paused until {limit.until:%H:%M} UTC")
            is_reported = True
        time.sleep(_BUDGET_POLL_SECONDS)


def _enhance_books(
    todo: Sequence[BookRequest], limits: Limits, *, json: bool
) -> tuple[list[BookResult], bool]:
    """Process books. Return the results and whether the run was interrupted. A book whose parser was ended is retried
    last."""
    engine, results = get_engine(), list[BookResult]()
    register, waiting, retried = BookRegister(engine.settings), deque(todo), set[str]()
    engine.tidy(*{request.out.rpartition("/")[0] for request in todo})
    with _make_progress_bars() as bars:
        books = bars.add_task("books", total=len(todo))
        pages = _PageProgress(bars, len(todo))
        while waiting:
            request = waiting.popleft()
            try:
                if (why := _wait_for_budget(limits, bars.console.print)) is not None:
                    bars.stop()
                    print(f"No further book starts: {why}.", file=sys.stderr)
                    break
                pages.begin(len(results) + 1, to_printable(request.source.rpartition("/")[2]))
                result = enhance_book_directly(request, engine, pages.show)
            except KeyboardInterrupt:
                bars.stop()
                print(
                    f"Stopped after {len(results)} of {len(todo)} books. Finished pages are kept;"
                    " run the same command to continue.",
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
            _print_result(result, json=json)
            bars.advance(books)
            if result.error is not None and result.error.code in FATAL_BACKFILL_CODES:
                break
    return results, False


class _PageProgress:
    """Progress of the current book: a bar on a terminal, otherwise a line at intervals."""

    def __init__(self, bars: Progress, books: int) -> None:
        self._bars = bars
        self._task = bars.add_task("pages", total=None, visible=False)
        self._books = books
        self._began = self._reported = time.monotonic()
        self._label = ""

    def begin(self, number: int, name: str) -> None:
        """Start the book with this number, counted from 1."""
        self._label = f"book {number} of {self._books}, {name}"
        self._began = self._reported = time.monotonic()
        self._bars.update(self._task, description=name[-40:], visible=True)
        self._bars.reset(self._task, total=None)
        if self._bars.disable:
            print(f"{self._label}: started", file=sys.stderr, flush=True)

    def show(self, done: int, count: int) -> None:
        """Show that `done` of `count` pages are finished."""
        self._bars.update(self._task, completed=done, total=count)
        now = time.monotonic()
        if self._bars.disable and now - self._reported >= _PROGRESS_INTERVAL_SECONDS and 0 < done < count:
            self._reported = now
            left = (now - self._began) / done * (count - done)
            print(
                f"{self._label}: page {done} of {count}, about {_format_duration(left)} left",
                file=sys.stderr,
                flush=True,
            )


def _print_result(result: BookResult, *, json: bool) -> None:
    if json:
        print_json(result.model_dump(mode="json"))
        return
    name = to_printable(result.source.rpartition("/")[2])
    if result.error is not None:
        print(f"{name}: {to_printable(result.error.message)} [{result.error.code}]", flush=True)
    elif result.skipped:
        print(f"{name}: done before{_describe_loss(result)}", flush=True)
    else:
        states = ", ".join(f"{count} {state}" for state, count in result.states.items())
        known = f", {result.cached} known before" if result.cached else ""
        rate = result.pages / result.seconds if result.seconds else 0.0
        print(
            f"{name}: {result.pages} pages ({states}{known}), {result.bytes_before / 1e6:.1f} ->"
            f" {result.bytes_after / 1e6:.1f} MB, {result.seconds:.1f} s, {rate:.2f} pages/s{_describe_loss(result)}\n"
            f"    {to_printable(result.out)}",
            flush=True,
        )
    for note in result.notes:
        print(f"    {to_printable(note)}", flush=True)
    for refusal in result.refused:
        print(f"    {to_printable(refusal.name)}: {refusal.message} [{refusal.code}]", flush=True)


def _describe_loss(result: BookResult) -> str:
    """Describe missing parts of the source, for the end of the book's line."""
    return f", incomplete: {result.lost} files are missing" if result.status == "incomplete" else ""


def _format_summary(results: Sequence[BookResult], count: int) -> str:
    failed = sum(result.status == "error" for result in results)
    skipped = sum(result.skipped for result in results)
    incomplete = sum(result.status == "incomplete" for result in results)
    pages = sum(result.pages for result in results if not result.skipped)
    return (
        f"{count} books: {len(results) - failed - skipped} done now, {skipped} before, {failed} failed,"
        f" {count - len(results)} left; {f'{incomplete} incomplete; ' if incomplete else ''}{pages} pages."
    )


def _format_duration(seconds: float) -> str:
    return (
        time.strftime("%H:%M:%S", time.gmtime(seconds))
        if seconds < 86_400
        else f"{seconds / 86_400:.1f} days"
    )


def _make_progress_bars() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
