"""The flow in the warm processes of the tests."""

import os
import time
from pathlib import Path

from prefect import flow, task

from orchestration.s3_blocks import begin_run
from panelworks.settings import get_settings

LOADED: list[int] = []
"""Stays in memory between the runs of a process."""


@task(timeout_seconds=3)
def wait(seconds: float) -> None:
    time.sleep(seconds)


@flow(name="warm-work")
def work(note: str, seconds: float = 0) -> int:
    """Write down the process, the number of its runs, and a variable and a setting of the run; then wait."""
    LOADED.append(1)
    begin_run(None)
    with Path(note).open("a", encoding="utf-8") as file:
        file.write(
            f"{os.getpid()} {len(LOADED)} {os.environ.get('COLOUR', 'none')}-{get_settings().upscale_scale}\n"
        )
    if seconds > 10:
        time.sleep(seconds)  # in the flow, which has no timeout
    else:
        wait(seconds)
    return len(LOADED)
