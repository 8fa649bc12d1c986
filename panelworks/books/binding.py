"""The pages of a finished book, and writing the CBZ: to a hidden file that is read again before it is renamed."""

import errno
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from panelworks.books.metadata import SIDECAR
from panelworks.domain.books import PageSpec
from panelworks.domain.formats import PictureFormat, format_that_holds
from panelworks.errors import Misconfigured, Transient
from panelworks.pictures import FORMAT_SIDE_LIMITS, Picture, encode, fit_size, resize
from panelworks.storage.atomic import sweep, writing

_MAX_BLANK_LEVELS: Final = 10
"""Largest difference between the darkest and the lightest pixel of a blank row, in levels."""
_BAND_ROWS: Final = 1024
"""Rows that are examined together."""


@dataclass(frozen=True)
class PagePart:
    """One encoded picture of a page."""

    format: PictureFormat
    size: tuple[int, int]
    data: bytes


def cut_page(master: Picture, spec: PageSpec, xmp: bytes | None) -> Iterator[PagePart]:
    """Encode the page in the format of the spec. A page that is too long for it is cut at blank gutters; a page without
    gutters is encoded in the next format that allows its size."""
    page = resize(master, fit_size(master.size, (spec.width, spec.height)))
    for top, bottom in parts_of(page, FORMAT_SIDE_LIMITS[spec.format]):
        part = page.region(0, top, page.width, bottom - top)
        format = format_that_holds(*part.size, spec.format)
        yield PagePart(format, part.size, encode(part, format, spec.quality, xmp))


def parts_of(page: Picture, limit: int) -> list[tuple[int, int]]:
    """Rows (top, bottom) of the parts, each at most `limit` high; the whole page if it cannot be cut."""
    whole = [(0, page.height)]
    if page.height <= limit or page.width > limit:
        return whole
    blank = np.flatnonzero(blank_rows(page))
    parts, top = [], 0
    while page.height - top > limit:
        reach = blank[(blank > top) & (blank <= top + limit)]
        if not reach.size:
            return whole
        cut = _middle_of_last_run(reach)
        parts.append((top, cut))
        top = cut
    return [*parts, (top, page.height)]


def blank_rows(page: Picture) -> np.ndarray:
    """Which rows have only one tone, as booleans."""
    found = []
    for top in range(0, page.height, _BAND_ROWS):
        rows = page.pixels[top : top + _BAND_ROWS]
        spread = rows.max(axis=1).astype(np.int16) - rows.min(axis=1)
        found.append((spread <= _MAX_BLANK_LEVELS).all(axis=1))
    return np.concatenate(found)


def _middle_of_last_run(rows: np.ndarray) -> int:
    """The middle of the last run of adjacent rows."""
    breaks = np.flatnonzero(np.diff(rows) > 1)
    begin = rows[breaks[-1] + 1] if breaks.size else rows[0]
    return int(begin + rows[-1] + 1) // 2


_ENTRY_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""Time of each entry, the earliest that a ZIP allows: a book that is bound again has the same bytes."""
_ENTRY_MODE: Final = 0o100644 << 16


@dataclass(frozen=True)
class Leaf:
    """An entry of the book. Its bytes are loaded when it is written, so that only one page is in memory."""

    name: str
    load: Callable[[], bytes]


def bind(leaves: Iterable[Leaf], path: Path) -> int:
    """Write the book under a hidden name, verify it, and rename it; returns its size in bytes.

    Raises:
        Misconfigured: `disk_full`, `not_writable`.
        Transient: `book_not_verified`, the file does not contain what was written.
    """
    with convert_os_errors(path):
        sweep(path.parent, deep=False)
        with writing(path) as hidden:
            written = _write(leaves, hidden)
            _verify(hidden, written)
            size = hidden.stat().st_size
        _sync_folder(path.parent)
    return size


def is_ours(path: Path) -> bool:
    """Was the book at `path` written by Panelworks? Other files are never replaced."""
    try:
        with zipfile.ZipFile(path) as book:
            return SIDECAR in book.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _write(leaves: Iterable[Leaf], path: Path) -> dict[str, bytes]:
    """Write the entries; returns their digests by name."""
    digests: dict[str, bytes] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as book:
        for leaf in leaves:
            entry = zipfile.ZipInfo(leaf.name, _ENTRY_TIME)
            entry.create_system, entry.external_attr = 3, _ENTRY_MODE
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
    """Make the rename durable. Network file systems often cannot do this."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def convert_os_errors(path: Path) -> Iterator[None]:
    """Raise errors of the operating system about the book at `path` as `Misconfigured`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Misconfigured(
                "disk_full",
                f"There is no room left on the disk of {path.parent}. Finished pages remain stored; free some space and run it again.",
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise Misconfigured("name_too_long", f"The name is too long for the disk: {path.name}") from error
        raise Misconfigured(
            "not_writable", f"{path} cannot be written ({error.strerror or type(error).__name__})."
        ) from error
