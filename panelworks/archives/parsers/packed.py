"""RAR, 7Z, TAR and damaged ZIP files through libarchive, sequentially. Runs in a child process."""

import locale
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from panelworks.errors import Misconfigured

_CHUNK_BYTES: Final = 1 << 20
_BATCH_ENTRIES: Final = 500
_LOCKED: Final = ("encrypt", "passphrase", "password")
"""Words in libarchive's messages about encrypted archives."""

READ: Final = ""
LOCKED: Final = "locked"
DAMAGED: Final = "damaged"
"""The state of an entry, or of the rest of the archive."""


def entries(path: bytes, format_name: str, filter_name: str) -> Iterator[list[Any]]:
    """Batches of entries `[index, name as stored, size or None, is it a folder, is it a regular file]`.

    A last item `[LOCKED]` or `[DAMAGED]` means that the listing is incomplete.

    Raises:
        Misconfigured: `missing_library`.
    """
    error_type = _library().ArchiveError
    batch: list[Any] = []
    try:
        for index, entry in _opened(path, format_name, filter_name):
            batch.append(
                [index, _raw_name(entry.pathname, index), entry.size, bool(entry.isdir), bool(entry.isreg)]
            )
            if len(batch) >= _BATCH_ENTRIES:
                yield batch
                batch = []
    except error_type as error:
        yield batch
        yield [_reason(error)]
        return
    yield batch


def contents(
    path: bytes, format_name: str, filter_name: str, wanted: list[int], max_bytes: int
) -> Iterator[list[Any]]:
    """`[index, READ, bytes]` or `[index, LOCKED or DAMAGED, b""]` of the wanted entries, in the order of the archive.

    Entries larger than `max_bytes` are truncated slightly above this size. `[index, None, b""]` is yielded for each other
    entry, since each item of the stream has a time limit. The stream ends early if the archive is damaged.
    """
    error_type = _library().ArchiveError
    left = set(wanted)
    try:
        for index, entry in _opened(path, format_name, filter_name):
            if not left:
                return
            if index not in left:
                yield [index, None, b""]
                continue
            left.discard(index)
            data = bytearray()
            try:
                for block in entry.get_blocks(_CHUNK_BYTES):
                    data += block
                    if len(data) > max_bytes:
                        break
            except error_type as error:
                yield [index, _reason(error), b""]
                continue
            complete = entry.size is None or len(data) == entry.size or len(data) > max_bytes
            yield [index, READ, data] if complete else [index, DAMAGED, b""]
    except error_type:
        return


@contextmanager
def _descriptor(path: bytes) -> Iterator[int]:
    """Open the file for a block. libarchive receives the descriptor, since it accepts only names that are text."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(path: bytes, format_name: str, filter_name: str) -> Iterator[tuple[int, Any]]:
    with (
        _descriptor(path) as descriptor,
        _library().fd_reader(descriptor, format_name, filter_name) as archive,
    ):
        yield from enumerate(archive)


def _raw_name(name: str | bytes | None, index: int) -> bytes:
    """The name as stored, or as UTF-8; a number if libarchive returns no name."""
    if isinstance(name, bytes):
        return name
    if name is None:
        return f"unnamed-{index:05d}".encode()
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a 7Z with half of a surrogate pair
        return name.encode("utf-8", "replace")


def _reason(error: Exception) -> str:
    return LOCKED if any(word in str(error).lower() for word in _LOCKED) else DAMAGED


def _library() -> Any:
    try:
        import libarchive
    except Exception as error:
        raise Misconfigured(
            "missing_library",
            "RAR, 7Z and TAR files need libarchive: apt-get install libarchive13, or brew install libarchive.",
        ) from error
    _use_utf8_names()
    return libarchive


def _use_utf8_names() -> None:
    """Set a UTF-8 locale. libarchive converts names to the character set of the locale and returns none for a name that
    cannot be converted: without UTF-8, non-ASCII names of a 7Z or RAR would be missing."""
    if locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8":
        return
    for name in ("C.UTF-8", "C.utf8", "en_US.UTF-8", "UTF-8"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, name)
            return
