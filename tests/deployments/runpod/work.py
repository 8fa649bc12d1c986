"""The flow inside the pods of the tests."""

import os
import signal
import time
from pathlib import Path

from prefect import flow, task


@task
def wait(seconds: float) -> None:
    time.sleep(seconds)


@flow(name="pod-work", log_prints=True)
def work(ends: str = "well", seconds: float = 0, note: str | None = None) -> str:
    """Work for a while, then end in the requested way."""
    if note:
        with Path(note).open("a", encoding="utf-8") as file:
            file.write(f"{os.environ['RUNPOD_POD_ID']}\n")
    wait(seconds)
    if ends == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if ends == "badly":
        raise ValueError("as requested")
    return ends
