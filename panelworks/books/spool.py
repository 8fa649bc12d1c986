"""The spool: local copies of books that lie in a bucket, gone when they are no longer needed."""

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from panelworks.settings import Settings


@contextmanager
def spool(settings: Settings) -> Iterator[Path]:
    """A folder for a block. Those of processes of this machine that died are removed first."""
    root, host = settings.cache_dir / "spool", socket.gethostname().replace("~", "-")
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{host}~*"):
        number = left.name.split("~")[1]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{host}~{os.getpid()}~{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
