"""What runs beside the page in the warm worker of the tests."""

import os
import signal
import time
from pathlib import Path

from prefect import flow


@flow(name="deaf-work")
def deaf_work(note: str) -> None:
    """Note the process; the first one hears no signal, and would work on for minutes."""
    first = not Path(note).exists()
    with Path(note).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    if first:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(300)
