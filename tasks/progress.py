"""The progress of a page in the Prefect UI."""

import time
from typing import Final
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from panelworks.progress import Progress
from panelworks.records import IngestedPage

_LEAST_SECONDS: Final = 1.0
"""Between two updates: each is a request to the server."""


def tile_progress(page: IngestedPage) -> Progress:
    """A callback for the share of finished tiles, shown as a progress artifact of the task run."""
    artifact = create_progress_artifact(0.0, key="tiles", description=f"Tiles of {page.stem}")
    assert isinstance(artifact, UUID), "this runs in a sync task"  # noqa: S101 - tells the type checker
    shown = time.monotonic()

    def report(share: float) -> None:
        nonlocal shown
        now = time.monotonic()
        if share >= 1 or now - shown >= _LEAST_SECONDS:
            shown = now
            update_progress_artifact(artifact, progress=round(100 * share, 1))

    return report
