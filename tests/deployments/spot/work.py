"""The flow that runs next to the page in the warm worker of the tests."""

import os
import signal
import time
from pathlib import Path

from prefect import flow


@flow(name="deaf-work")
def deaf_work(note: str) -> None:
    """Write down the process. The first one ignores signals and would continue for minutes."""
    first = not Path(note).exists()
    with Path(note).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    if first:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(300)
