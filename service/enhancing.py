"""`panelworks enhance`: many sources through either conductor."""

import asyncio
import logging
import sys

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from panelworks.domain.formats import preset_named
from panelworks.domain.options import EnhanceOptions, Matting, Region
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Misconfigured, PanelworksError
from panelworks.names import shown
from panelworks.page import pipeline
from panelworks.page.direct import enhance_directly, new_job_id
from panelworks.page.planning import plan_for
from panelworks.settings import get_settings
from panelworks.storage import check_places
from service.console import print_json
from service.prefect_defaults import apply_prefect_defaults
from service.prefect_server import reach_server, server_error, server_url

logger = logging.getLogger(__name__)

_ORIGIN = Origin(tool="cli")


def check_options(options: EnhanceOptions) -> None:
    """Refuse options that no page could be processed with, before the first page is read.

    Raises:
        UnknownName: an unknown preset or model, or an action that nothing installed performs.
    """
    preset_named(options.preset)
    settings = get_settings()
    plan_for((1, 1), options.settled(settings), settings)


def region_of(text: str) -> Region:
    """The rectangle in `X,Y,W,H`.

    Raises:
        Misconfigured: `bad_region`.
    """
    left, top, width, height = _numbers(text, 4, "bad_region", "A rectangle reads like 120,80,40,30.")
    try:
        return Region(left=left, top=top, width=width, height=height)
    except ValidationError as error:
        raise Misconfigured("bad_region", "A rectangle lies inside the page and is not empty.") from error


def matting_of(text: str) -> Matting:
    """The thresholds in `F,B,E`.

    Raises:
        Misconfigured: `bad_matting`.
    """
    told = "The thresholds of matting read like 240,10,10: two of 0 to 255, and pixels up to 100."
    foreground, background, erode = _numbers(text, 3, "bad_matting", told)
    try:
        return Matting(foreground=foreground, background=background, erode=erode)
    except ValidationError as error:
        raise Misconfigured("bad_matting", told) from error


def _numbers(text: str, count: int, code: str, told: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise Misconfigured(code, told)
    return numbers


def enhance_all(
    sources: list[str], out: str, options: EnhanceOptions, *, force: bool, flow: bool | None, json: bool
) -> int:
    """Process the sources in order and print each result as it is there; returns the exit code.

    Raises:
        Misconfigured, Transient: results cannot be written to `out` or to the store, or the configured Prefect server
            cannot be used; no source was processed.
    """
    settings = get_settings()
    check_places((out, settings.store_location), settings)
    url = server_url()
    conduct = _with_flow if (url is not None if flow is None else flow) else _directly
    if url is not None and conduct is _with_flow:
        reach_server()
    failures = done = 0
    with _bar() as bar:
        pages = bar.add_task("pages", total=len(sources))
        tiles = bar.add_task("tiles", total=100, visible=False)
        for source in sources:
            request = PageRequest(
                source=source, out=out, options=options, job_id=new_job_id(), origin=_ORIGIN, force=force
            )
            bar.reset(tiles, total=100, visible=False)
            try:
                result = conduct(request, bar, tiles)
            except KeyboardInterrupt:
                bar.stop()
                print(
                    f"Stopped after {done} of {len(sources)} pages. What is done is delivered;"
                    " the same command goes on from here.",
                    file=sys.stderr,
                )
                return 130
            _print(source, result, json=json)
            failures += result.status == "error"
            done += 1
            bar.advance(pages)
    return 1 if failures else 0


def _directly(request: PageRequest, bar: Progress, tiles: TaskID) -> PageResult:
    def show(share: float) -> None:
        bar.update(tiles, completed=100 * share, visible=True)

    return enhance_directly(request, progress=show)


def _with_flow(request: PageRequest, bar: Progress, tiles: TaskID) -> PageResult:
    apply_prefect_defaults()
    from flows.enhance_page import enhance_page

    try:
        return asyncio.run(
            enhance_page(
                request.source,
                request.out,
                request.options,
                request.force,
                request.job_id,
                request.origin,
            )
        )
    except PanelworksError as error:
        return pipeline.failed(request, error)
    except Exception as error:
        unavailable = server_error(error)
        if unavailable is not None:
            return pipeline.failed(request, unavailable)
        logger.exception("the flow of job %s ended in a way that was not foreseen", request.job_id)
        return pipeline.failed(request, error)


def _print(source: str, result: PageResult, *, json: bool) -> None:
    if json:
        print_json(result.model_dump(mode="json"))
        return
    source = shown(source)
    name = source if len(source) <= 60 else f"{source[:20]}…{source[-36:]}"
    if result.error is not None:
        print(f"{name}: {shown(result.error.message)} [{result.error.code}]", flush=True)
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
            print(f"    {shown(note)}", flush=True)


def _bar() -> Progress:
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
