"""One TLS context for all of Prefect's clients in a process.

Prefect makes a client for each task and each question, some ten a page, and each reads the same file of a hundred
certificates anew: 15 ms of a core each time, also where the server is asked without TLS.
"""

import functools
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prefect.client import orchestration


def share_tls_context() -> None:
    """From now on Prefect's clients of this process share what they would each read. Other code keeps its `ssl`."""
    theirs: Any = orchestration
    theirs.ssl = SimpleNamespace(**{**vars(ssl), "create_default_context": _context})


def _context(cafile: str | None = None) -> ssl.SSLContext:
    """As `ssl.create_default_context`; those of a file are shared until the file changes."""
    if cafile is None:  # Prefect changes these, to skip verification
        return ssl.create_default_context()
    return _of(cafile, Path(cafile).stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _of(file: str, changed: int) -> ssl.SSLContext:
    del changed  # of the key
    return ssl.create_default_context(cafile=file)
