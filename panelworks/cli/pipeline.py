"""The pipeline beside the library: present in a checkout and in the image, absent where only the library is
installed."""

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
"""Commands that only the pipeline has."""
_MODULE: Final = "service.cli"
_CHECKOUT: Final = Path(__file__).parents[2]


class Pipeline(Protocol):
    """What the pipeline adds to the command line."""

    commands: typer.Typer

    def server_url(self) -> str | None:
        """The address of the configured server; None when none is configured."""
        ...

    def reach_server(self) -> str:
        """The address of the configured server, after one request to it.

        Raises:
            Misconfigured, Transient: there is none, or it cannot be used.
        """
        ...

    def server_error(self, error: Exception) -> PanelworksError | None:
        """What an exception of the server's client means; None for any other exception."""
        ...

    def enhance(self, request: PageRequest) -> PageResult:
        """Process a page as a run; whatever goes wrong becomes a result with an error."""
        ...

    def backfill(self, backfill: Backfill, until: str | None) -> BackfillSummary:
        """Process an archive as a run, on the workers of the server if it has any."""
        ...


@cache
def find_pipeline() -> Pipeline | None:
    """The pipeline of the checkout that this library lies in; None where there is none, or its packages are missing."""
    if not (_CHECKOUT / "service" / "cli" / "__init__.py").is_file():
        return None
    try:
        module = importlib.import_module(_MODULE)
    except ModuleNotFoundError:
        return None
    pipeline: Pipeline = module.PIPELINE
    return pipeline


def require_pipeline(wanted: str) -> Pipeline:
    """The pipeline.

    Raises:
        Misconfigured: `no_pipeline`; `wanted` says what needs it.
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
    """Give the app hidden commands with the names of the pipeline's that say where to get it."""
    for name in COMMANDS:
        app.command(
            name, hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
        )(_missing_command(name))


def _missing_command(name: str) -> Callable[[], None]:
    def explain() -> None:
        require_pipeline(f"'panelworks {name}'")

    return explain
