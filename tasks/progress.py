"""The progress of a page in the Prefect UI."""

import logging
import time
from typing import Final
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from panelworks.domain.result import IngestedPage
from panelworks.progress import Progress, ignore_progress
from panelworks.text import escape_markdown

logger = logging.getLogger(__name__)

_SERVER_AWAY: Final = (httpx.HTTPError, PrefectException)
"""What the client raises; a task's own timeout, which may strike here too, is not among it."""
_LEAST_SECONDS: Final = 1.0
"""Between two updates: each is a request to the server."""


def tile_progress(page: IngestedPage) -> Progress:
    """A callback for the share of finished tiles, shown as a progress artifact of the task run.

    A server that does not answer costs the display, never the page.
    """
    try:
        artifact = create_progress_artifact(
            0.0, key="tiles", description=f"Tiles of {escape_markdown(page.stem)}"
        )
    except _SERVER_AWAY as error:
        logger.warning("no progress is shown (%s)", type(error).__name__)
        return ignore_progress
    assert isinstance(artifact, UUID), "this runs in a sync task"  # noqa: S101 - tells the type checker
    shown = time.monotonic()

    def report(share: float) -> None:
        nonlocal shown
        now = time.monotonic()
        if share < 1 and now - shown < _LEAST_SECONDS:
            return
        shown = now
        try:
            update_progress_artifact(artifact, progress=round(100 * share, 1))
        except _SERVER_AWAY as error:
            logger.warning("progress is not shown (%s)", type(error).__name__)

    return report


def both(first: Progress, second: Progress) -> Progress:
    """Report to two."""

    def report(share: float) -> None:
        first(share)
        second(share)

    return report
