"""The `panelworks` command: its subcommands, and errors as one sentence and an exit code."""

import importlib
import sys
from collections.abc import Sequence
from typing import Final

import typer

from panelworks.cli import output
from panelworks.cli.pipeline import explain_missing_commands, find_pipeline
from panelworks.errors import Misconfigured, PanelworksError, as_known_error
from panelworks.logs import start_logging
from panelworks.settings import get_settings
from panelworks.telemetry import check_telemetry, leave_telemetry_off, start_telemetry
from panelworks.text import to_printable

_COMMANDS: Final = {
    "enhance": "panelworks enhance pages/*.webp https://example.com/cover.jpg --out enhanced --json",
    "frames": "panelworks frames clip.mp4 --scenes --sheet --out frames; panelworks frames clip.mp4 --poster --enhance",
    "score": "panelworks score pages/*.png --json",
    "backfill": "panelworks backfill ~/comics --out ~/enhanced --format webp --longest-side 3200 --until 06:00",
    "report": "panelworks report --out report.html; panelworks report --last --json",
    "models": None,
    "presets": "panelworks presets --json",
    "demo": "panelworks demo --out demo-out",
}
"""The commands of the library, with an example. None marks a group, whose commands have their own examples."""
_TRACED_COMMANDS: Final = {
    **dict.fromkeys(("enhance", "frames", "backfill", "emit"), "panelworks"),
    "gateway": "panelworks-gateway",
    "supervise": "panelworks-supervisor",
}
"""Commands whose processes export traces, and the name of the service in them."""
_MODULES: Final = {"presets": "models"}
"""Modules of commands that are not in a module of their own name."""


def build_app(wanted: str | None = None) -> typer.Typer:
    """Build the available commands: those of the library and, in a checkout, those of the pipeline.

    If `wanted` is a command of the library, only that command is imported, because imports take most of the time of a
    short command.
    """
    app = typer.Typer(
        name="panelworks",
        help="Enhance comic pages and check the results.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(_configure)
    for name in (wanted,) if wanted in _COMMANDS else _COMMANDS:
        _add_command(app, str(name))
    if wanted in _COMMANDS:
        return app
    pipeline = find_pipeline()
    if pipeline is None:
        explain_missing_commands(app)
    else:
        app.add_typer(pipeline.commands)
    return app


def _add_command(app: typer.Typer, name: str) -> None:
    module = importlib.import_module(f"panelworks.cli.{_MODULES.get(name, name)}")
    example = _COMMANDS[name]
    if example is None:
        app.add_typer(module.app, name=name)
    else:
        app.command(epilog=f"Example: {example}")(getattr(module, name))


def _configure(context: typer.Context) -> None:
    """Enhance comic pages and check the results."""
    settings = get_settings()
    start_logging(settings, text_format="%(asctime)s %(levelname)s %(message)s")
    check_telemetry(settings)
    service = _TRACED_COMMANDS.get(context.invoked_subcommand or "")
    if service is None:
        leave_telemetry_off()
    else:
        start_telemetry(service, settings)
    pipeline = find_pipeline() if settings.s3_block else None
    if pipeline is not None:
        pipeline.use_s3_blocks()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Known errors and errors of the server become one sentence and an exit code, without a traceback."""
    output.use_utf8()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build_app(given[0] if given else None)(args=given)
    except Exception as error:
        known = _to_known_error(error)
        if known is None:
            raise
        print(f"panelworks: {to_printable(str(known))}", file=sys.stderr)
        sys.exit(2 if isinstance(known, Misconfigured) else 1)


def _to_known_error(error: Exception) -> PanelworksError | None:
    """Convert an exception to a known error; None for an unexpected one."""
    pipeline = find_pipeline()
    return as_known_error(error) or (None if pipeline is None else pipeline.as_server_error(error))
