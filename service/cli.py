"""The `panelworks` command line."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from deployments.names import POOL, PoolKind, Priority
from deployments.targets import Target
from panelworks.errors import Misconfigured, PanelworksError
from panelworks.settings import get_settings
from service import console

app = typer.Typer(
    name="panelworks",
    help="Comic pages in, checked, enhanced and press-ready pages out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(
    help="The networks: which there are, fetching their weights, checking them.", no_args_is_help=True
)
app.add_typer(models_app, name="models")
keys_app = typer.Typer(help="API keys of the gateway.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

pools_app = typer.Typer(
    help="Work pools: made from our templates, and checked before anything costs money.", no_args_is_help=True
)
app.add_typer(pools_app, name="pools")

Switch = Literal["auto", "on", "off"]
Scale = Annotated[float | None, typer.Option(min=1, max=4, help="How many times larger; else UPSCALE_SCALE.")]
Model = Annotated[
    str, typer.Option(help="A name of 'panelworks models list', a weight file, 'lanczos' or 'auto'.")
]
Flow = Annotated[
    bool | None,
    typer.Option(
        "--flow/--direct",
        help="As a Prefect flow, or by plain calls. Default: a flow when PREFECT_API_URL is set.",
    ),
]
BookFormat = Literal["same", "jpeg", "webp", "avif", "png"]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line on standard output.")]


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
    fix_artifacts: Annotated[
        Switch, typer.Option(help="Take back what JPEG did: as the page needs it, always, never.")
    ] = "auto",
    descreen: Annotated[
        Switch, typer.Option(help="Turn printed dots into tone; it takes screentone too, which is art.")
    ] = "off",
    denoise: Annotated[
        float | None, typer.Option(min=0, max=1, help="Remove noise or grain, from weakly to strongly.")
    ] = None,
    face: Annotated[
        bool, typer.Option("--face", help="Restore photographic faces; drawn ones are left alone.")
    ] = False,
    colour: Annotated[
        float | None, typer.Option(min=0, max=1, help="White paper, black ink, more contrast and colour.")
    ] = None,
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
    from panelworks.options import EnhanceOptions
    from service.enhancing import check_options, enhance_all, matting_of, region_of

    options = EnhanceOptions(
        preset=preset, scale=scale, model=model, fix_artifacts=fix_artifacts, descreen=descreen, denoise=denoise,
        face=face, colour=colour, remove_background=remove_background,
        matting=matting_of(matting) if matting else None, inpaint=tuple(region_of(one) for one in inpaint or ()),
        inpaint_scratches=inpaint_scratches,
    )  # fmt: skip
    check_options(options)
    settings = get_settings()
    with console.expanded(sources, settings.max_source_bytes) as found:
        code = enhance_all(found, out or settings.default_out, options, force=force, flow=flow, json=json)
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
    xmp: Annotated[bool, typer.Option("--xmp", help="Write into each page what was done to it.")] = False,
    model: Model = "auto",
    until: Annotated[
        str | None, typer.Option(metavar="HH:MM", help="Begin no further book after this time of day.")
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

    Interrupt it when you like, or pull the plug: the same command goes on with the page it was at.
    Exit code: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted.
    """
    from panelworks.books.backfill import Backfill
    from panelworks.books.options import BookOptions
    from panelworks.options import EnhanceOptions
    from service.backfilling import backfill_directly, backfill_with_flow, tell_expectation, window_of
    from service.enhancing import check_options

    page = EnhanceOptions(scale=scale, model=model)
    check_options(page)
    options = BookOptions(
        page=page, format=format, quality=quality, longest_side=longest_side, height=height, xmp=xmp
    )
    asked = Backfill(archive=archive, out=out, options=options, force=force)
    window = window_of(until) if until else None
    if dry_run:
        raise typer.Exit(tell_expectation(asked, json=json))
    if bool(os.environ.get("PREFECT_API_URL")) if flow is None else flow:
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
    from panelworks.presets import PRESETS

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


@app.command(epilog="Example: panelworks up --check; panelworks up --port 4210 --gateway-port 8210")
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect server.")] = 4200,
    gateway_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the gateway.")] = 8200,
    host: Annotated[
        str, typer.Option(help="Address that the gateway listens on; others than loopback need keys.")
    ] = "127.0.0.1",
    pages: Annotated[int, typer.Option(min=1, help="Pages in process at the same time.")] = 2,
    gpu: Annotated[int, typer.Option(min=1, help="Networks that run at the same time on the device.")] = 1,
    warm: Annotated[
        bool, typer.Option("--warm", help="Pages share processes that stay, with the networks loaded.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Start nothing; say what is wrong and how to mend it.")
    ] = False,
) -> None:
    """Start the whole stack on this machine: Prefect server, deployments, automations, worker, gateway.

    Joins the server that PREFECT_API_URL names, if it is set. Ctrl-C takes down what was started.
    """
    from service.stack.plan import StackPlan
    from service.stack.up import bring_up, check_up

    joined = os.environ.get("PREFECT_API_URL") or None
    plan = StackPlan(
        host=host, port=port, gateway_port=gateway_port, pages=pages, gpu=gpu, joined=joined, warm=warm
    )
    raise typer.Exit(check_up(plan) if check else bring_up(plan))


@app.command(epilog="Example: PREFECT_API_URL=http://prefect:4200/api panelworks provision")
def provision(
    gpu: Annotated[int, typer.Option(min=1, help="Networks that run at the same time on the device.")] = 1,
    target: Annotated[
        Target, typer.Option(help="Whose pool the deployments go to; see the definitions of prefect.yaml.")
    ] = "local",
) -> None:
    """Register pool, queues, limits, blocks, automations and deployments at the server of PREFECT_API_URL."""
    from service.stack.plan import StackPlan
    from service.stack.up import provision_server

    joined = os.environ.get("PREFECT_API_URL")
    if not joined:
        raise Misconfigured("no_server", "PREFECT_API_URL does not say where the Prefect server is.")
    plan = StackPlan(host="127.0.0.1", port=0, gateway_port=0, pages=1, gpu=gpu, joined=joined, target=target)
    raise typer.Exit(provision_server(plan))


@app.command(epilog="Example: panelworks worker --pool panelworks --limit 2")
def worker(
    pool: Annotated[str, typer.Option(help="A work pool of the type 'process'.")] = POOL,
    name: Annotated[str | None, typer.Option(help="Name of the worker.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs at the same time, a warm process each.")] = 2,
    plain: Annotated[bool, typer.Option("--plain", help="A new process for each run.")] = False,
    runs_per_process: Annotated[
        int, typer.Option(min=0, help="Replace a warm process after so many runs; 0: never.")
    ] = 0,
    idle_seconds: Annotated[
        float,
        typer.Option(min=1, help="Replace a process that is idle for as long: it frees the GPU's memory."),
    ] = 900,
) -> None:
    """Serve a work pool from warm processes: flow and networks stay loaded between runs."""
    from service.working import work

    work(
        pool,
        name=name,
        limit=limit,
        plain=plain,
        runs_per_child=runs_per_process,
        idle_seconds=idle_seconds,
    )


@app.command(epilog="Example: panelworks gateway --port 8200")
def gateway(
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines only with PANELWORKS_API_KEYS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8200,
) -> None:
    """Serve the HTTP gateway alone; `panelworks up` starts it with the rest."""
    from service.serving import serve

    serve(host, port)


@app.command(epilog="Example: panelworks emit https://example.com/panel.png --tool dall-e --panel-id p7")
def emit(
    source: Annotated[str, typer.Argument(help="https://, s3:// or data: address of the panel.")],
    tool: Annotated[str, typer.Option(help="Who generated it.")] = "cli",
    job_id: Annotated[str | None, typer.Option(help="The generator's id of the job; else a new one.")] = None,
    panel_id: Annotated[str | None, typer.Option(help="The panel's identity.")] = None,
    comic_id: Annotated[str | None, typer.Option(help="The comic's identity.")] = None,
    preset: Annotated[str, typer.Option(help="Variants to cut.")] = "comic-page",
    scale: Annotated[float | None, typer.Option(min=1, max=4, help="How many times larger.")] = None,
    priority: Annotated[Priority, typer.Option(help="Which queue it waits in.")] = "events",
    callback: Annotated[str | None, typer.Option(help="https:// address to tell the result to.")] = None,
    json: Json = False,
) -> None:
    """Tell Prefect that a panel was generated: the event comic.panel.generated."""
    from service.emission import emit_generated

    emitted = emit_generated(
        source, tool=tool, job_id=job_id, panel_id=panel_id, comic_id=comic_id, preset=preset, scale=scale,
        priority=priority, callback=callback,
    )  # fmt: skip
    if json:
        console.print_json(emitted)
    else:
        print(f"event {emitted['event_id']}, job {emitted['job_id']}")


@app.command(epilog="Example: panelworks bench --json")
def bench(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each side; the median counts.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Leave the memory figures out.")] = False,
    json: Json = False,
) -> None:
    """Measure this machine: the engine beside the package realesrgan, a page's stages, cold start, memory."""
    from service.bench.run import run_bench

    run_bench(runs=runs, json=json, quick=quick)


@keys_app.command("new", epilog="Example: panelworks keys new reader")
def new_key(name: Annotated[str, typer.Argument(help="Whose key it is.")]) -> None:
    """Make an API key: shown once; only its hash is configured."""
    from service.gateway.access import new_key

    key, digest = new_key()
    print(f"Give this key to {name}; it is not shown again:\n    {key}")
    print(f"Add this to PANELWORKS_API_KEYS, separated by commas:\n    {name}:{digest}")


@models_app.command("list", epilog="Example: panelworks models list --json")
def list_models(json: Json = False) -> None:
    """List the known networks: installed or not, scale, size, licence, use."""
    from service.weights import list_all

    list_all(json=json)


@models_app.command("fetch", epilog="Example: panelworks models fetch realesr-animevideov3")
def fetch_model(name: Annotated[str, typer.Argument(help="A name of 'panelworks models list'.")]) -> None:
    """Download the weights of a network, resumed and hash-checked."""
    from service.weights import fetch

    print("\n".join(fetch(name)))


@models_app.command("verify", epilog="Example: panelworks models verify")
def verify_models() -> None:
    """Check the hash of every weight file on this machine; exit code 1 when one is wrong."""
    from service.weights import verify

    raise typer.Exit(verify())


@pools_app.command("create", epilog="Example: panelworks pools create gpu-cloud --type kubernetes")
def create_pool(
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    type: Annotated[PoolKind, typer.Option(help="What its workers start runs in.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Give a pool that is there our template again.")
    ] = False,
) -> None:
    """Create a work pool with GPU settings, as a form in the Prefect UI."""
    from service.poolside import create

    create(name, type, overwrite=overwrite)


@pools_app.command("check", epilog="Example: panelworks pools check gpu-cloud")
def check_pool(
    name: Annotated[str, typer.Argument(help="Name of the pool.")],
    json: Json = False,
) -> None:
    """Would its infrastructure take what a worker starts? Asked of its own libraries; exit code 1 if not."""
    from service.poolside import check

    raise typer.Exit(check(name, json=json))


@pools_app.command("template", epilog="Example: panelworks pools template ecs > template.json")
def print_template(
    type: Annotated[PoolKind, typer.Argument(help="What runs are started in.")],
) -> None:
    """Print the base job template of a type, for 'prefect work-pool create --base-job-template'."""
    from service.poolside import print_template

    print_template(type)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors of ours become one sentence and an exit code, never a traceback."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except PanelworksError as error:
        print(f"panelworks: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, Misconfigured) else 1)


if __name__ == "__main__":
    main()
