"""The `panelworks` command line."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from panelworks.errors import Misconfigured, PanelworksError
from panelworks.names import shown
from panelworks.settings import get_settings
from service import console
from service.commands import keys, models, operations, pools, schedules
from service.commands.options import Json
from service.prefect_server import server_error, server_url

app = typer.Typer(
    name="panelworks",
    help="Comic pages in, checked, enhanced and press-ready pages out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(operations.app)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(pools.app, name="pools")
app.add_typer(schedules.app, name="schedule")

Switch = Literal["auto", "on", "off"]
Scale = Annotated[float | None, typer.Option(min=1, max=4, help="How many times larger; else UPSCALE_SCALE.")]
Model = Annotated[
    str, typer.Option(help="A name of 'panelworks models list', a weight file, 'lanczos' or 'auto'.")
]
Flow = Annotated[
    bool | None,
    typer.Option(
        "--flow/--direct",
        help="As a Prefect flow, or by plain calls. Default: a flow when a Prefect server is configured.",
    ),
]
FixArtifacts = Annotated[
    Switch, typer.Option(help="Remove JPEG artifacts: as the page needs it, always, never.")
]
Descreen = Annotated[
    Switch,
    typer.Option(help="Turn printed dots into tone; it removes screentone too, which is part of the art."),
]
Denoise = Annotated[
    float | None, typer.Option(min=0, max=1, help="Remove noise or grain, from weakly (0) to strongly (1).")
]
Colour = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="White paper, black ink, more contrast and colour, up to fully (1)."),
]
AcceptDamaged = Annotated[
    bool,
    typer.Option(
        "--accept-damaged",
        help="Enhance pages whose files are damaged inside; else they are kept as they are.",
    ),
]
BookFormat = Literal["same", "jpeg", "webp", "avif", "png"]


@app.callback()
def configure() -> None:
    """Comic pages in, checked, enhanced and press-ready pages out."""
    console.start_logging(get_settings().log_level)


@app.command(
    epilog="Example: panelworks enhance pages/*.webp https://example.com/cover.jpg --out enhanced --json"
)
def enhance(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Paths, globs, https://, s3:// or data: addresses; '-': a picture on standard input.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None, typer.Option(help="Folder or s3://bucket/prefix to deliver to; else PANELWORKS_OUT.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Variants to cut: see 'panelworks presets'.")] = "comic-page",
    scale: Scale = None,
    model: Model = "auto",
    fix_artifacts: FixArtifacts = "auto",
    descreen: Descreen = "off",
    denoise: Denoise = None,
    face: Annotated[
        bool, typer.Option("--face", help="Restore photographic faces; drawn ones are left alone.")
    ] = False,
    colour: Colour = None,
    remove_background: Annotated[
        bool, typer.Option("--remove-background", help="Cut the figure out.")
    ] = False,
    matting: Annotated[
        str | None,
        typer.Option(
            metavar="F,B,E",
            help="Softer edges when a figure is cut out: opacity that surely is figure, that surely is not, pixels"
            " of border; such as 240,10,10.",
        ),
    ] = None,
    inpaint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H", help="Draw a rectangle of the source anew; may be given several times."
        ),
    ] = None,
    inpaint_scratches: Annotated[
        bool, typer.Option("--inpaint-scratches", help="Find light specks and scratches, and draw them anew.")
    ] = False,
    accept_damaged: AcceptDamaged = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compute again even when the result is known.")
    ] = False,
    flow: Flow = None,
    json: Json = False,
) -> None:
    """Enhance pages: assess, enlarge where that helps, validate, cut variants, deliver.

    Each source gives one result; a bad one is reported and the others are delivered.
    Exit code: 0 all delivered, 1 some failed, 2 wrong usage.
    """
    from panelworks.domain.options import EnhanceOptions
    from service.enhancing import check_options, enhance_all, matting_of, region_of

    options = EnhanceOptions(
        preset=preset, scale=scale, model=model, fix_artifacts=fix_artifacts, descreen=descreen, denoise=denoise,
        face=face, colour=colour, remove_background=remove_background,
        matting=matting_of(matting) if matting else None, inpaint=tuple(region_of(one) for one in inpaint or ()),
        inpaint_scratches=inpaint_scratches, accept_damaged=accept_damaged,
    )  # fmt: skip
    check_options(options)
    settings = get_settings()
    with console.expanded(sources, settings.max_source_bytes) as found:
        code = enhance_all(
            found, console.addressed(out or settings.default_out), options, force=force, flow=flow, json=json
        )
    raise typer.Exit(code)


@app.command(epilog="Example: panelworks score pages/*.png --json")
def score(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="As the sources of 'enhance'.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Score pages without changing them: resolution, technical quality, and what the gate would say."""
    from service.scoring import score_all

    with console.expanded(images, get_settings().max_source_bytes) as found:
        code = score_all(found, json=json)
    raise typer.Exit(code)


@app.command(
    epilog="Example: panelworks backfill ~/comics --out ~/enhanced --format webp --longest-side 3200 --until 06:00"
)
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
    scale: Scale = None,
    longest_side: Annotated[
        int | None, typer.Option(min=16, help="Pixels of the longest side of a page, instead of a scale.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=16, help="Height of the reading device in pixels, instead of a scale.")
    ] = None,
    format: Annotated[
        BookFormat, typer.Option(help="How pages are written; same: as the source was.")
    ] = "same",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF.")] = 90,
    name_encoding: Annotated[
        str | None,
        typer.Option(help="Encoding of names in archives that state none, such as cp932; else they decide."),
    ] = None,
    xmp: Annotated[bool, typer.Option("--xmp", help="Write into each page what was done to it.")] = False,
    model: Model = "auto",
    fix_artifacts: FixArtifacts = "auto",
    descreen: Descreen = "off",
    denoise: Denoise = None,
    colour: Colour = None,
    accept_damaged: AcceptDamaged = False,
    until: Annotated[
        str | None, typer.Option(metavar="HH:MM", help="Begin no further book after this time of day.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.01, metavar="USD", help="Begin no further book once the books of this run cost as much."
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
    """Enhance an archive of books: each becomes a CBZ, page by page, and what is done is passed by.

    Interrupt it when you like, or pull the plug: the same command goes on with the page it was at. When the day's budget
    (PANELWORKS_BUDGET_PER_DAY) is spent, it waits for the next day.
    Exit code: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    from panelworks.books.backfill import Backfill
    from panelworks.domain.books import BookOptions
    from panelworks.domain.options import EnhanceOptions
    from service.backfilling import (
        backfill_directly,
        backfill_with_flow,
        encoding_of,
        tell_expectation,
        window_of,
    )
    from service.enhancing import check_options

    page = EnhanceOptions(
        scale=scale,
        model=model,
        fix_artifacts=fix_artifacts,
        descreen=descreen,
        denoise=denoise,
        colour=colour,
        accept_damaged=accept_damaged,
    )
    check_options(page)
    options = BookOptions(
        page=page, format=format, quality=quality, longest_side=longest_side, height=height, xmp=xmp,
        name_encoding=encoding_of(name_encoding),
    )  # fmt: skip
    archive, out = console.addressed(archive), console.addressed(out)
    asked = Backfill(archive=archive, out=out, options=options, budget=budget, force=force)
    window = window_of(until) if until else None
    if dry_run:
        raise typer.Exit(tell_expectation(asked, json=json))
    if server_url() is not None if flow is None else flow:
        raise typer.Exit(backfill_with_flow(asked, until, json=json))
    raise typer.Exit(backfill_directly(asked, window, json=json))


@app.command(epilog="Example: panelworks report --out report.html; panelworks report --last --json")
def report(
    out: Annotated[Path, typer.Option(help="The page of HTML to write.")] = Path("panelworks-report.html"),
    last: Annotated[
        bool, typer.Option("--last", help="Only of the last backfill; else of all books.")
    ] = False,
    run: Annotated[str | None, typer.Option(help="Only of the backfill with this run id.")] = None,
    json: Json = False,
) -> None:
    """Report on books from the ledger: routes, scores, seconds, failures, cost, the pages to look at."""
    from service.archive_report import write_archive_report

    raise typer.Exit(write_archive_report(out, run=run, last=last, json=json))


@app.command(epilog="Example: panelworks presets --json")
def presets(json: Json = False) -> None:
    """List the presets and the variants that each cuts."""
    from panelworks.domain.formats import PRESETS

    for name, specs in PRESETS.items():
        if json:
            console.print_json({"name": name, "variants": [spec.model_dump() for spec in specs]})
        else:
            variants = ", ".join(
                f"{s.name} {s.width or '*'}x{s.height or '*'} {s.format} q{s.quality}" for s in specs
            )
            print(f"{name:<18} {variants}")


@app.command(epilog="Example: panelworks demo --out demo-out")
def demo(
    out: Annotated[Path, typer.Option(help="Where the demonstration delivers.")] = Path("demo-out"),
) -> None:
    """Run the flow on two sample pages and write a report with the pictures side by side."""
    from service.demonstration import demonstrate

    raise typer.Exit(demonstrate(out))


@app.command(epilog="Example: panelworks bench --json")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each side; the median counts.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Leave the memory figures out.")] = False,
    json: Json = False,
) -> None:
    """Measure this machine: the engine beside the package realesrgan, a page's stages, cold start, memory."""
    from service.bench.run import run_bench

    run_bench(runs=runs, json=json, quick=quick)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors of ours and of the Prefect server become one sentence and an exit code, never a traceback."""
    console.use_utf8()
    try:
        app(args=list(arguments) if arguments is not None else None)
    except Exception as error:
        known = error if isinstance(error, PanelworksError) else server_error(error)
        if known is None:
            raise
        print(f"panelworks: {shown(str(known))}", file=sys.stderr)
        sys.exit(2 if isinstance(known, Misconfigured) else 1)


if __name__ == "__main__":
    main()
