"""The spool: local copies of books that lie in a bucket, gone when they are no longer needed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panelworks.settings import Settings
from panelworks.store.atomic import sweep, temporary_name


@contextmanager
def spool(settings: Settings) -> Iterator[Path]:
    """A folder for a block. The folders of dead processes are removed first."""
    root = settings.cache_dir / "spool"
    sweep(root, deep=False)
    folder = root / temporary_name()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
