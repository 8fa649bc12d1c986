"""The `panelworks` command line."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

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
    scale: Annotated[
        float | None, typer.Option(min=1, max=4, help="How many times larger; else UPSCALE_SCALE.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="A name of 'panelworks models list', a weight file, 'lanczos' or 'auto'.")
    ] = "auto",
    face: Annotated[bool, typer.Option("--face", help="Restore photographic faces.")] = False,
    remove_background: Annotated[
        bool, typer.Option("--remove-background", help="Cut the figure out.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Compute again even when the result is known.")
    ] = False,
    flow: Annotated[
        bool | None,
        typer.Option(
            "--flow/--direct",
            help="As a Prefect flow, or by plain calls. Default: a flow when PREFECT_API_URL is set.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Enhance pages: assess, enlarge where that helps, validate, cut variants, deliver.

    Each source gives one result; a bad one is reported and the others are delivered.
    Exit code: 0 all delivered, 1 some failed, 2 wrong usage.
    """
    from panelworks.records import EnhanceOptions
    from service.enhancing import check_options, enhance_all

    options = EnhanceOptions(
        preset=preset, scale=scale, model=model, face=face, remove_background=remove_background
    )
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


@models_app.command("list", epilog="Example: panelworks models list --json")
def list_models(json: Json = False) -> None:
    """List the known networks: installed or not, scale, size, licence, use."""
    from service.weights import list_all

    list_all(json=json)


@models_app.command("fetch", epilog="Example: panelworks models fetch realesr-animevideov3")
def fetch_model(name: Annotated[str, typer.Argument(help="A name of 'panelworks models list'.")]) -> None:
    """Download the weights of a network, resumed and hash-checked."""
    from service.weights import fetch

    print(fetch(name))


@models_app.command("verify", epilog="Example: panelworks models verify")
def verify_models() -> None:
    """Check the hash of every weight file on this machine; exit code 1 when one is wrong."""
    from service.weights import verify

    raise typer.Exit(verify())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors of ours become one sentence and an exit code, never a traceback."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except PanelworksError as error:
        print(f"panelworks: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, Misconfigured) else 1)


if __name__ == "__main__":
    main()
