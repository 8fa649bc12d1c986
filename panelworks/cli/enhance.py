"""`panelworks enhance`: enhance pages in this process or as runs of the pipeline."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from panelworks.cli.batches import Page, PageList, list_pages, open_page
from panelworks.cli.explain import explain_all
from panelworks.cli.options import Json, with_options
from panelworks.cli.output import argument_to_address, expand_sources, print_json, shorten_source
from panelworks.cli.pipeline import find_pipeline, require_pipeline
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import ErrorInfo, PageResult
from panelworks.errors import PanelworksError, Rejected, UnknownName
from panelworks.page.direct import enhance_directly, new_job_id
from panelworks.page.rules import check_plan, rules_of
from panelworks.settings import get_settings
from panelworks.storage import check_places
from panelworks.text import to_printable

_ORIGIN = Origin(tool="cli")


Flow = Annotated[
    bool | None,
    typer.Option(
        "--flow/--direct",
        help="Run in the pipeline, or in this process. Default: in the pipeline if a Prefect server is configured.",
    ),
]
_Runner = Callable[[PageRequest, Progress, TaskID], PageResult]


@with_options(
    EnhanceOptions, without=("quality_threshold", "technical_threshold", "tone_points", "ignore_series_rule")
)
def enhance(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Paths, globs, https://, s3:// or data: addresses; folders, ZIP archives, and manifests (.csv, .jsonl) with"
            " source, options and job_id in each row; '-' reads a picture from standard input.",
            show_default=False,
        ),
    ],
    options: EnhanceOptions,
    out: Annotated[
        str | None,
        typer.Option(help="Folder or s3://bucket/prefix for the results. Default: PANELWORKS_OUT."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print which rule applies to each page, and why; enhance nothing."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compute the result again even if it is cached.")
    ] = False,
    flow: Flow = None,
    json: Json = False,
) -> None:
    """Enhance pages: assess, upscale if needed, validate, make variants, deliver.

    Each source has one result. Failures are reported, the other sources are delivered. Options in a row of a manifest
    override those of the command. Interrupted, the same command continues: finished pages are cached.
    Exit code: 0 all delivered, 1 some failed, 2 wrong usage.
    """
    check_options(options)
    settings = get_settings()
    with expand_sources(sources, settings.max_source_bytes) as found, ExitStack() as stack:
        pages = list_pages(found, stack, settings)
        if explain:
            raise typer.Exit(explain_all(pages.pages, options, json=json))
        code = enhance_all(
            pages,
            argument_to_address(out or settings.default_out),
            options,
            force=force,
            flow=flow,
            json=json,
        )
    raise typer.Exit(code)


def check_options(options: EnhanceOptions) -> None:
    """Refuse unusable options before the first page is read.

    Raises:
        UnknownName: an unknown preset or model, or an action that no installed provider performs.
    """
    settings = get_settings()
    check_plan(options, settings)
    for rule in rules_of(options, settings):
        check_plan(options.with_defaults_from(rule.then), settings)


def enhance_all(
    found: PageList,
    out: str,
    options: EnhanceOptions,
    *,
    force: bool,
    flow: bool | None,
    json: bool,
    on_result: Callable[[str, PageResult], None] = lambda address, result: None,
) -> int:
    """Process the pages in order and print each result when it is available. Return the exit code.

    `on_result` is called with the address of each page and its result.

    Raises:
        Misconfigured, Transient: results cannot be written to `out` or to the store, or the configured Prefect server
            cannot be used; no page was processed.
    """
    settings = get_settings()
    check_places((out, settings.store_location), settings)
    runner = _find_runner(flow) or _enhance_here
    totals, tried = _Totals(len(found.pages)), TriedOptions(options)
    with make_progress_bar() as bar:
        pages = bar.add_task("pages", total=len(found.pages))
        tiles = bar.add_task("tiles", total=100, visible=False)
        for page in found.pages:
            bar.reset(tiles, total=100, visible=False)
            try:
                result = _enhance_page(page, out, tried, lambda one: runner(one, bar, tiles), force=force)
            except KeyboardInterrupt:
                bar.stop()
                print(
                    f"Stopped after {totals.done} of {totals.pages} pages. Finished pages are delivered;"
                    " run the same command to continue.",
                    file=sys.stderr,
                )
                return 130
            _print_result(page, result, json=json)
            on_result(page.address, result)
            totals.add(result)
            bar.advance(pages)
    if found.is_batch:
        totals.print(json=json)
    return 1 if totals.failed else 0


class TriedOptions:
    """The options of the command and of the rows of manifests, each checked once."""

    def __init__(self, options: EnhanceOptions) -> None:
        """`options` are those of the command, which were checked before."""
        self._options = options
        self._errors: dict[str, PanelworksError | None] = {}

    def of(self, page: Page) -> EnhanceOptions:
        """The options of a page.

        Raises:
            UnknownName: an unknown preset or model, or an action that no installed provider performs.
        """
        if page.options is None:
            return self._options
        options = page.options.with_defaults_from(self._options)
        text = options.model_dump_json()
        if text not in self._errors:
            try:
                check_options(options)
                self._errors[text] = None
            except PanelworksError as error:
                self._errors[text] = error
        known = self._errors[text]
        if known is not None:
            raise known
        return options


class _Totals:
    """The summary of a batch."""

    def __init__(self, pages: int) -> None:
        self.batch_id = new_job_id()
        self.pages, self.done, self.failed, self.cached = pages, 0, 0, 0
        self._routes: Counter[str] = Counter()
        self._started = time.monotonic()

    def add(self, result: PageResult) -> None:
        self.done += 1
        self.failed += result.status == "error"
        self.cached += result.cached
        if result.route is not None:
            self._routes[result.route] += 1

    def print(self, *, json: bool) -> None:
        """Print the summary as the last line."""
        seconds = time.monotonic() - self._started
        if json:
            counts = {"total": self.pages, "done": self.done - self.failed, "failed": self.failed}
            summary = {"batch_id": self.batch_id, "counts": counts, "cached": self.cached}
            print_json({"batch": {**summary, "routes": dict(self._routes), "seconds": round(seconds, 3)}})
            return
        routes = ", ".join(f"{count} {route}" for route, count in sorted(self._routes.items()))
        print(
            f"{self.done - self.failed} of {self.pages} pages delivered"
            f"{f' ({routes})' if routes else ''}, {self.failed} failed, {self.cached} from the cache, {seconds:.1f} s",
            flush=True,
        )


def _enhance_page(
    page: Page, out: str, tried: TriedOptions, run: Callable[[PageRequest], PageResult], *, force: bool
) -> PageResult:
    """The result of a page; every failure is a result with an error."""
    job_id = page.job_id or new_job_id()
    if page.error is not None:
        return PageResult(job_id=job_id, status="error", error=page.error)
    try:
        request = PageRequest(
            source=open_page(page),
            out=out,
            options=tried.of(page),
            job_id=job_id,
            origin=_ORIGIN,
            force=force,
        )
    except (Rejected, UnknownName) as error:
        return PageResult(job_id=job_id, status="error", error=ErrorInfo.of(error))
    return run(request)


def _enhance_here(request: PageRequest, bar: Progress, tiles: TaskID) -> PageResult:
    def show(share: float) -> None:
        bar.update(tiles, completed=100 * share, visible=True)

    return enhance_directly(request, progress=show)


def _find_runner(flow: bool | None) -> _Runner | None:
    """Return a function that runs a page in the pipeline, if requested or if a server is configured; else None.

    Raises:
        Misconfigured, Transient: there is no pipeline, or the configured server cannot be used.
    """
    if flow is False:
        return None
    pipeline = require_pipeline("--flow") if flow else find_pipeline()
    if pipeline is None or (pipeline.find_server_url() is None and not flow):
        return None
    if pipeline.find_server_url() is not None:
        pipeline.check_server()
    run_page = pipeline.enhance
    return lambda request, bar, tiles: run_page(request)


def _print_result(page: Page, result: PageResult, *, json: bool) -> None:
    if json:
        row = {} if page.row is None else {"row": page.row}
        print_json({**result.model_dump(mode="json"), **row})
        return
    name = shorten_source(page.name) if page.row is None else f"row {page.row}: {shorten_source(page.name)}"
    if result.error is not None:
        print(f"{name}: {to_printable(result.error.message)} [{result.error.code}]", flush=True)
    elif result.source and result.master and result.quality:
        cached = ", from the cache" if result.cached else ""
        print(
            f"{name}: {result.route}, {result.source.width}x{result.source.height} ->"
            f" {result.master.width}x{result.master.height},"
            f" score {result.quality.before.overall:.2f} -> {result.quality.after.overall:.2f},"
            f" {result.seconds.get('total', 0):.1f} s{cached}\n    {result.master.uri}",
            flush=True,
        )
        reason = (result.fallback.reason,) if result.fallback and result.route == "couldn't_upscale" else ()
        for note in (*result.notes, *reason):
            print(f"    {to_printable(note)}", flush=True)


def make_progress_bar() -> Progress:
    """A progress bar on standard error; hidden unless that is a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
