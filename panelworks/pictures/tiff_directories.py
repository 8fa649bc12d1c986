"""The directories of a TIFF, each a page, a thumbnail or a mask, read without a decoder and within limits."""

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from panelworks.errors import Rejected
from panelworks.pictures.structure import MAX_PARTS, Structure, excess_error

SIGNATURES: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""Little and big endian, classic and BigTIFF."""
MAX_DIRECTORIES: Final = 10_000
MAX_TAGS: Final = 1_000
"""Maximum entries of a directory. The standard and its extensions define fewer than 300."""
MAX_SHARED_DATA_RATIO: Final = 4
"""Maximum ratio of the bytes of all strips to those of the file: overlapping strips are decoded repeatedly."""
_MAX_THUMBNAIL_SIDE: Final = 320
_MIN_THUMBNAIL_RATIO: Final = 3
"""An unmarked first picture is a thumbnail if its sides are that small and the next one is larger by this factor."""
_TYPE_BYTES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of a value by its type."""
_MIN_ENTRY_BYTES: Final = 12
_LONG8: Final = (16, 18)
"""Types that only BigTIFF has."""
_STRUCT_CODES: Final = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""`struct` codes of unsigned types."""
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, STRIP_BYTES, PLANAR, PREDICTOR = 273, 274, 277, 279, 284, 317
TILE_OFFSETS, TILE_BYTES, EXTRA_SAMPLES, SAMPLE_FORMAT = 324, 325, 338, 339
_STREAM_OFFSET, _STREAM_BYTES = 513, 514
_DATA_TAGS: Final = {STRIP_OFFSETS: STRIP_BYTES, TILE_OFFSETS: TILE_BYTES, _STREAM_OFFSET: _STREAM_BYTES}
"""Tags of the offsets of pixels, and the tags of their sizes in bytes."""
_POINTER_TAGS: Final = (330, 34665, 34853, 40965)
"""Tags that point to further directories. They are omitted from a copied page."""
_REDUCED_FLAG, _MASK_FLAG = 1, 4


@dataclass(frozen=True)
class Directory:
    """One directory of a TIFF."""

    at: int
    next_at: int
    """Position of the offset of the next directory."""
    entries: Mapping[int, tuple[int, int, bytes | memoryview]]
    """Type, count and bytes of each tag."""
    order: str
    big: bool

    def values(self, tag: int, default: int = 0) -> tuple[int, ...]:
        """The unsigned values of a tag."""
        return self._unpack(tag, MAX_PARTS) or (default,)

    def value(self, tag: int, default: int = 0) -> int:
        """The first unsigned value of a tag."""
        return (self._unpack(tag, 1) or (default,))[0]

    def _unpack(self, tag: int, most: int) -> tuple[int, ...]:
        kind, count, raw = self.entries.get(tag, (0, 0, b""))
        count = min(count, most)
        if kind not in _STRUCT_CODES or len(raw) < count * _TYPE_BYTES[kind]:
            return ()
        return struct.unpack(f"{self.order}{count}{_STRUCT_CODES[kind]}", raw[: count * _TYPE_BYTES[kind]])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored."""
        return self.value(WIDTH), self.value(HEIGHT)

    @property
    def is_page(self) -> bool:
        """Whether it is neither a reduced copy nor a mask of another picture."""
        return not self.value(SUBFILE) & (_REDUCED_FLAG | _MASK_FLAG) and self.value(255) != 2

    @property
    def is_complete(self) -> bool:
        """Whether it has the size and the data offsets of a picture."""
        stored = any(tag in self.entries for tag in (STRIP_OFFSETS, TILE_OFFSETS))
        return all(self.size) and stored and PHOTOMETRIC in self.entries

    def data_bytes(self, file_bytes: int) -> int:
        """Bytes of all strips or tiles that lie inside a file of `file_bytes`."""
        total = 0
        for offsets, sizes in _DATA_TAGS.items():
            if offsets in self.entries and sizes in self.entries:
                pairs = zip(self.values(offsets), self.values(sizes), strict=False)
                total += sum(min(size, max(file_bytes - at, 0)) for at, size in pairs)
        return total


def count_tiff_pages(data: bytes, max_pages: int) -> int:
    """Count the pages of a TIFF without thumbnails and masks; 1 for any other file.

    Raises:
        Rejected: as `split_tiff`.
    """
    return len(_list_pages(data, max_pages)) if data.startswith(SIGNATURES) else 1


def missing_tiff_pages(data: bytes, max_pages: int) -> str | None:
    """Why pages of a TIFF are missing; None if nothing indicates it, and for any other file.

    Raises:
        Rejected: as `split_tiff`.
    """
    return _read_chain(data, max_pages).fault if data.startswith(SIGNATURES) else None


def split_tiff(data: bytes, max_pages: int) -> Iterator[bytes]:
    """Yield each page of a TIFF as a separate TIFF with the same compressed data and tags.

    Raises:
        Rejected: `too_many_frames`, more than `max_pages`; `out_of_proportion`, more directories, tags or shared data than
            an encoder writes; `damaged`, no directory that can be read, or one that refers back to an earlier one.
    """
    for page in _list_pages(data, max_pages):
        yield page_file(data, page, {})


def scan_tiff(data: bytes, max_frames: int) -> Structure:
    """Make the first page the only one of the file.

    `info` has the `directory`, for pictures that Pillow does not read.

    Raises:
        Rejected: as `split_tiff`.
    """
    chain = _read_chain(data, max_frames)
    pages = _select_pages(chain)
    page, notes = pages[0], []
    if len(pages) > 1:
        notes.append(
            f"only the first of {len(pages)} pages is processed; 'panelworks backfill' processes all of them as a book"
        )
    if chain.fault is not None:
        notes.append(chain.fault)
    if page.data_bytes(len(data)) > MAX_SHARED_DATA_RATIO * len(data):
        raise excess_error("strips that share the same data")
    first = _first_offset(data)
    if page.big and page.order == ">":
        data = page_file(data, page, {})  # Pillow reads it as a classic TIFF
    elif page.at != first or int.from_bytes(data[page.next_at : page.next_at + 4], "little"):
        data = _make_only_page(data, page)
    return Structure(data, notes=tuple(notes), info={"directory": page, "pages": len(pages)})


def page_file(
    data: bytes, page: Directory, changes: Mapping[int, int], without: Collection[int] = ()
) -> bytes:
    """Write a classic TIFF of one directory with its data. Tags are replaced by the LONG values of `changes`, or
    omitted.

    Raises:
        Rejected: `out_of_proportion`, its strips overlap, and the copy would be much larger than the file.
    """
    if page.data_bytes(len(data)) > MAX_SHARED_DATA_RATIO * len(data):
        raise excess_error("strips that share the same data")
    order = page.order
    entries = {
        tag: entry for tag, entry in page.entries.items() if tag not in _POINTER_TAGS and tag not in without
    }
    for tag, (kind, _, _) in page.entries.items():
        if kind in _LONG8 and tag in entries:
            values = [min(value, 2**32 - 1) for value in page.values(tag)]
            entries[tag] = (4, len(values), struct.pack(f"{order}{len(values)}I", *values))
    entries |= {tag: (4, 1, struct.pack(f"{order}I", value)) for tag, value in changes.items()}
    body: list[bytes] = []
    position = 8
    for offsets, sizes in _DATA_TAGS.items():
        if offsets in entries and sizes in page.entries:
            places = []
            for at, size in zip(page.values(offsets), page.values(sizes), strict=False):
                part = data[at : at + size]
                places.append(position)
                body.append(part + b"\x00" * (len(part) & 1))
                position += len(body[-1])
            entries[offsets] = (4, len(places), struct.pack(f"{order}{len(places)}I", *places))
    table = []
    for tag, (kind, count, raw) in sorted(entries.items()):
        if len(raw) > 4:
            body.append(bytes(raw) + b"\x00" * (len(raw) & 1))
            raw, position = struct.pack(f"{order}I", position), position + len(body[-1])
        table.append(struct.pack(f"{order}HHI", tag, kind, count) + bytes(raw).ljust(4, b"\x00"))
    mark = b"II" if order == "<" else b"MM"
    start = struct.pack(f"{order}HI", 42, position)
    return b"".join((mark, start, *body, struct.pack(f"{order}H", len(table)), *table, bytes(4)))


def select_plane(page: Directory, plane: int) -> Directory:
    """The directory with the strips or tiles of one channel only, for a page with separate channels."""
    entries = dict(page.entries)
    for tag in (STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES):
        if tag in entries:
            values = page.values(tag)
            each = len(values) // max(page.value(SAMPLES, 1), 1)
            part = [min(value, 2**32 - 1) for value in values[plane * each : (plane + 1) * each]]
            entries[tag] = (4, len(part), struct.pack(f"{page.order}{len(part)}I", *part))
    return replace(page, entries=entries)


def _list_pages(data: bytes, max_pages: int) -> list[Directory]:
    return _select_pages(_read_chain(data, max_pages))


def _select_pages(chain: "_Chain") -> list[Directory]:
    """Select the directories that are pages; the largest one if all are marked as reduced."""
    pages = [one for one in chain.directories if one.is_page and all(one.size)]
    if not chain.directories:
        raise Rejected("damaged", "The TIFF has no readable directory.")
    if not pages:
        return [max(chain.directories, key=lambda one: one.size[0] * one.size[1])]
    return pages[1:] if _is_thumbnail(pages) else pages


def _is_thumbnail(pages: list[Directory]) -> bool:
    """Whether the first picture is an unmarked preview of the second one."""
    if len(pages) < 2:
        return False
    (width, height), (full_width, full_height) = pages[0].size, pages[1].size
    same_shape = abs(width * full_height - height * full_width) <= full_width + full_height
    return (
        max(width, height) <= _MAX_THUMBNAIL_SIDE
        and full_width >= _MIN_THUMBNAIL_RATIO * width
        and same_shape
    )


def _first_offset(data: bytes) -> int:
    order, big = _byte_layout(data)
    start, size = (8, 8) if big else (4, 4)
    return int.from_bytes(data[start : start + size], order)


def _byte_layout(data: bytes) -> tuple[Literal["little", "big"], bool]:
    return ("little" if data[:2] == b"II" else "big"), data[2:4] in (b"+\x00", b"\x00+")


@dataclass(frozen=True)
class _Chain:
    """The directories of a file, in their order."""

    directories: tuple[Directory, ...]
    fault: str | None
    """Why the chain is incomplete; None if it is complete."""


def _read_chain(data: bytes, max_pages: int) -> _Chain:
    """Read all directories up to an unreadable one.

    Raises:
        Rejected: `too_many_frames`, `out_of_proportion`, `damaged`, as `split_tiff` says.
    """
    order, big = _byte_layout(data)
    offset_size = 8 if big else 4
    directories: list[Directory] = []
    at, seen, tags, pages, fault = _first_offset(data), set[int](), 0, 0, None
    while at:
        if at in seen:
            raise Rejected(
                "damaged",
                f"The TIFF is damaged: its picture {len(directories)} refers back to an earlier one.",
            )
        seen.add(at)
        if len(seen) > MAX_DIRECTORIES:
            raise excess_error(f"more than {MAX_DIRECTORIES} directories")
        directory = _read_directory(data, at)
        if directory is None:
            fault = f"the TIFF ends after its picture {len(directories)}: the rest cannot be read"
            break
        tags += (directory.next_at - at) // _MIN_ENTRY_BYTES
        if tags > MAX_PARTS:
            raise excess_error(f"directories of {tags} tags")
        directories.append(directory)
        pages += directory.is_page and all(directory.size)
        if pages > max_pages:
            raise Rejected("too_many_frames", f"The TIFF has more than {max_pages} pages.")
        if not all(directory.size) and directory.is_page:
            fault = fault or f"picture {len(directories)} of the TIFF is damaged and cannot be read"
        at = int.from_bytes(data[directory.next_at : directory.next_at + offset_size], order)
    return _Chain(tuple(directories), fault)


def _read_directory(data: bytes, at: int) -> Directory | None:
    """Read the directory at a position of the file; None if it does not lie inside."""
    order, big = _byte_layout(data)
    sign = "<" if order == "little" else ">"
    entry_format, entry_size, count_size, offset_size = (
        (f"{sign}HHQ", 20, 8, 8) if big else (f"{sign}HHI", 12, 2, 4)
    )
    view = memoryview(data)
    if at > len(data) - count_size:
        return None
    count = int.from_bytes(view[at : at + count_size], order)
    start = at + count_size
    stop = start + count * entry_size
    if count > MAX_TAGS:
        raise excess_error(f"directories of {count} tags")
    if stop > len(data):
        return None
    entries: dict[int, tuple[int, int, bytes | memoryview]] = {}
    for place in range(start, stop, entry_size):
        tag, kind, number = struct.unpack(entry_format, view[place : place + entry_size - offset_size])
        field = view[place + entry_size - offset_size : place + entry_size]
        size = number * _TYPE_BYTES.get(kind, 0)
        if size > offset_size:
            value_at = int.from_bytes(field, order)
            field = view[value_at : value_at + size]
        if size:
            entries.setdefault(tag, (kind, number, field[:size]))
    return Directory(at, stop, entries, sign, big)


def _make_only_page(data: bytes, page: Directory) -> bytes:
    """Make `page` the first and last directory of the file."""
    changed = bytearray(data)
    size = 8 if page.big else 4
    order, _ = _byte_layout(data)
    start = 8 if page.big else 4
    changed[start : start + size] = page.at.to_bytes(size, order)
    changed[page.next_at : page.next_at + size] = bytes(len(changed[page.next_at : page.next_at + size]))
    return bytes(changed)
