"""The `panelworks` command: its commands, and errors as one sentence and an exit code."""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

import typer

from panelworks.cli import output
from panelworks.cli.pipeline import explain_missing_commands, find_pipeline
from panelworks.errors import Misconfigured, PanelworksError, as_known_error
from panelworks.settings import get_settings
from panelworks.text import to_printable

_EXAMPLES: Final = {
    "enhance": "panelworks enhance pages/*.webp https://example.com/cover.jpg --out enhanced --json",
    "score": "panelworks score pages/*.png --json",
    "backfill": "panelworks backfill ~/comics --out ~/enhanced --format webp --longest-side 3200 --until 06:00",
    "report": "panelworks report --out report.html; panelworks report --last --json",
    "models": None,
    "presets": "panelworks presets --json",
    "demo": "panelworks demo --out demo-out",
}
"""The commands of the library, each in a module of its name, with an example; a group of commands has them itself."""


def build_app(wanted: str | None = None) -> typer.Typer:
    """The commands that work here: those of the library and, in a checkout, those of the pipeline.

    With the name of a command of the library, only that command is imported: imports take most of a short command's time.
    """
    app = typer.Typer(
        name="panelworks",
        help="Comic pages in, checked, enhanced and press-ready pages out.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(_configure)
    for name in (wanted,) if wanted in _EXAMPLES else _EXAMPLES:
        _add(app, str(name))
    if wanted in _EXAMPLES:
        return app
    pipeline = find_pipeline()
    if pipeline is None:
        explain_missing_commands(app)
    else:
        app.add_typer(pipeline.commands)
    return app


def _add(app: typer.Typer, name: str) -> None:
    module, example = importlib.import_module(f"panelworks.cli.{name}"), _EXAMPLES[name]
    if example is None:
        app.add_typer(module.app, name=name)
    else:
        app.command(epilog=f"Example: {example}")(getattr(module, name))


def _configure() -> None:
    """Comic pages in, checked, enhanced and press-ready pages out."""
    output.start_logging(get_settings().log_level)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: errors of ours and of the server become one sentence and an exit code, never a traceback."""
    output.use_utf8()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build_app(given[0] if given else None)(args=given)
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        print(f"panelworks: {to_printable(str(known))}", file=sys.stderr)
        sys.exit(2 if isinstance(known, Misconfigured) else 1)


def _known(error: Exception) -> PanelworksError | None:
    """The error as one sentence; None when nothing foresees it."""
    pipeline = find_pipeline()
    return as_known_error(error) or (None if pipeline is None else pipeline.server_error(error))
