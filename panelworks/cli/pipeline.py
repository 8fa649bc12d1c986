"""The pipeline's part of the command line. It exists in a checkout and in the image, not in an installed library."""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import typer

from panelworks.books.backfill import Backfill
from panelworks.domain.books import BackfillSummary
from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Misconfigured, PanelworksError

COMMANDS: Final = (
    "up", "server", "worker", "gateway", "supervise", "provision", "schedule", "emit", "pools", "keys", "bench",
)  # fmt: skip
"""Commands of the pipeline."""
_MODULE: Final = "service.cli"
_CHECKOUT: Final = Path(__file__).parents[2]


class Pipeline(Protocol):
    """The interface of the pipeline to the command line."""

    commands: typer.Typer

    def find_server_url(self) -> str | None:
        """The URL of the configured server; None if none is configured."""
        ...

    def check_server(self) -> str:
        """The URL of the configured server, after a successful request to it.

        Raises:
            Misconfigured, Transient: there is none, or it is not usable.
        """
        ...

    def as_server_error(self, error: Exception) -> PanelworksError | None:
        """Convert an exception of the server's client; None for any other exception."""
        ...

    def use_s3_blocks(self) -> None:
        """Read the blocks that PANELWORKS_S3_BLOCK names, in this process."""
        ...

    def enhance(self, request: PageRequest) -> PageResult:
        """Process a page as a run. Any failure becomes a result with an error."""
        ...

    def backfill(self, backfill: Backfill, until: str | None) -> BackfillSummary:
        """Process an archive as a run, on the workers of the server if there are any."""
        ...


@cache
def find_pipeline() -> Pipeline | None:
    """Find the pipeline of this checkout; None if there is none, or its packages are missing."""
    if not (_CHECKOUT / "service" / "cli" / "__init__.py").is_file():
        return None
    try:
        module = importlib.import_module(_MODULE)
    except ModuleNotFoundError:
        return None
    pipeline: Pipeline = module.PIPELINE
    return pipeline


def require_pipeline(wanted: str) -> Pipeline:
    """Find the pipeline or fail.

    Raises:
        Misconfigured: `no_pipeline`. `wanted` names what needs it.
    """
    pipeline = find_pipeline()
    if pipeline is None:
        raise Misconfigured(
            "no_pipeline",
            f"{wanted} needs the pipeline. It runs from a checkout of the repository or from the image: in a checkout,"
            " run pip install --editable '.[pipeline]' (see docs/how-to/deploy.md).",
        )
    return pipeline


def explain_missing_commands(app: typer.Typer) -> None:
    """Add hidden commands with the names of the pipeline's commands. They explain where to get it."""
    for name in COMMANDS:
        app.command(
            name, hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
        )(_missing_command(name))


def _missing_command(name: str) -> Callable[[], None]:
    def explain() -> None:
        require_pipeline(f"'panelworks {name}'")

    return explain
