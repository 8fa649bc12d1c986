"""Binding: the finished CBZ, written beside its place, opened again, and only then given its name."""

import errno
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from panelworks.books.provenance import SIDECAR
from panelworks.errors import Misconfigured, Transient
from panelworks.store.atomic import sweep, writing

_WHEN: Final = (1980, 1, 1, 0, 0, 0)
"""Time of each entry, the earliest that a ZIP holds: a book bound again has the same bytes."""
_MODE: Final = 0o100644 << 16


@dataclass(frozen=True)
class Leaf:
    """An entry of the book. Its bytes are fetched when it is written, so that one page at a time is in memory."""

    name: str
    load: Callable[[], bytes]


def bind(leaves: Iterable[Leaf], path: Path) -> int:
    """Write the book under a hidden name, check it, and give it its name at once; returns its bytes.

    Raises:
        Misconfigured: `disk_full`, `not_writable`.
        Transient: `book_not_verified`, what was written does not read back as it was.
    """
    with _explained(path):
        sweep(path.parent, deep=False)
        with writing(path) as hidden:
            written = _write(leaves, hidden)
            _verify(hidden, written)
            size = hidden.stat().st_size
        _sync_folder(path.parent)
    return size


def is_ours(path: Path) -> bool:
    """Was the book at `path` bound here? Others are never replaced."""
    try:
        with zipfile.ZipFile(path) as book:
            return SIDECAR in book.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _write(leaves: Iterable[Leaf], path: Path) -> dict[str, bytes]:
    """The digests of what was written, by name."""
    digests: dict[str, bytes] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as book:
        for leaf in leaves:
            entry = zipfile.ZipInfo(leaf.name, _WHEN)
            entry.create_system, entry.external_attr = 3, _MODE
            data = leaf.load()
            book.writestr(entry, data)
            digests[leaf.name] = hashlib.sha256(data).digest()
    return digests


def _verify(path: Path, written: dict[str, bytes]) -> None:
    try:
        with zipfile.ZipFile(path) as book:
            names = book.namelist()
            same = names == list(written) and all(
                hashlib.sha256(book.read(name)).digest() == written[name] for name in names
            )
    except zipfile.BadZipFile:
        same = False
    if not same:
        raise Transient(
            "book_not_verified", f"What was written for {path.name} does not read back; is the disk sound?"
        )


def _sync_folder(folder: Path) -> None:
    """Make the name survive a power cut, where the file system can: shares on a network often cannot."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Misconfigured(
                "disk_full",
                f"There is no room left on the disk of {path.parent}. What is done is kept; make room and run it again.",
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise Misconfigured(
                "name_too_long", f"The disk does not take so long a name: {path.name}"
            ) from error
        raise Misconfigured(
            "not_writable", f"{path} cannot be written ({error.strerror or type(error).__name__})."
        ) from error
