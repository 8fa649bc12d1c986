"""The pages of a multi-page TIFF, each as a TIFF of its own with the same compressed pixels."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from panelworks.errors import Rejected

MAX_TIFF_PAGES: Final = 1000
"""Pages of one file that are read."""
_MAX_GROWTH: Final = 2
"""Times the bytes of the file that its pages may take together."""
_SIGNATURES: Final = {
    b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True),
}  # fmt: skip
"""Byte order and whether it is a BigTIFF, with offsets of 8 bytes."""
_TYPE_BYTES: Final = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8,
}  # fmt: skip
"""Bytes of one value of each field type: TIFF 6.0 section 2, and BigTIFF."""
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _COMPRESSION = 254, 255, 259
_OFFSETS: Final = {273: 279, 324: 325}
"""Tags with the places of strips and tiles, and the tags with their lengths."""
_FOREIGN_PLACES: Final = frozenset({330, 34665, 34853, 40965})
"""Tags that name further directories, which a page does not need: SubIFDs, EXIF, GPS, interoperability."""
_REDUCED_OR_MASK: Final = 0b101
"""Bits of NewSubfileType: a reduced image, a mask."""
_OLD_REDUCED: Final = 2
"""SubfileType of a reduced image."""
_OLD_JPEG: Final = 6
"""Compression whose tables lie outside the strips; such pages are not taken apart."""
_LONG8: Final = 16
_LONG: Final = 4


@dataclass(frozen=True)
class _Field:
    tag: int
    kind: int
    count: int
    value: bytes


def split_pages(data: bytes) -> list[bytes]:
    """The pages of a TIFF file in its order, as files; `[data]` for one page and for every other format.

    Thumbnails and masks are no pages. A file whose directories are damaged is left whole, so that decoding it says
    what is wrong. A file with more than MAX_TIFF_PAGES directories, or whose pages share their data, is left whole
    as well: such files are made to take memory.
    """
    layout = _SIGNATURES.get(data[:4])
    if layout is None:
        return [data]
    try:
        pages = [fields for fields in _directories(data, *layout) if _is_page(fields, layout[0])]
        if len(pages) < 2:
            return [data]
        files, taken = [], 0
        for fields in pages:
            files.append(_file_of(fields, data, *layout))
            taken += len(files[-1])
            if taken > _MAX_GROWTH * len(data):
                return [data]
    except (Rejected, struct.error, ValueError, KeyError):
        return [data]
    return files


def _directories(data: bytes, order: str, big: bool) -> Iterator[dict[int, _Field]]:
    """The fields of each directory of the chain."""
    pointer, count_form, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (place,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    seen: set[int] = set()
    while place:
        if place in seen or len(seen) >= MAX_TIFF_PAGES:
            raise Rejected("damaged", "The directories of the TIFF form a loop or are too many.")
        seen.add(place)
        (count,) = struct.unpack_from(order + count_form, data, place)
        start = place + struct.calcsize(order + count_form)
        if start + count * entry > len(data):
            raise Rejected("truncated", "The TIFF ends inside a directory.")
        fields = {}
        for index in range(count):
            field = _field(data, start + index * entry, order, big)
            fields[field.tag] = field
        yield fields
        (place,) = struct.unpack_from(order + pointer, data, start + count * entry)


def _field(data: bytes, place: int, order: str, big: bool) -> _Field:
    tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, place)
    inline, pointer = (8, "Q") if big else (4, "I")
    size = _TYPE_BYTES.get(kind, 1) * count
    start = place + (12 if big else 8)
    if size > inline:
        (start,) = struct.unpack_from(order + pointer, data, start)
    if start + size > len(data):
        raise Rejected("truncated", "The TIFF ends inside a field.")
    return _Field(tag, kind, count, data[start : start + size])


def _numbers(field: _Field, order: str) -> tuple[int, ...]:
    form = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}[field.kind]
    return struct.unpack(f"{order}{field.count}{form}", field.value)


def _is_page(fields: dict[int, _Field], order: str) -> bool:
    if _COMPRESSION in fields and _numbers(fields[_COMPRESSION], order)[:1] == (_OLD_JPEG,):
        raise Rejected("unsupported", "Pages of old-style JPEG in TIFF are not taken apart.")
    if _NEW_SUBFILE_TYPE in fields:
        return not _numbers(fields[_NEW_SUBFILE_TYPE], order)[0] & _REDUCED_OR_MASK
    return _SUBFILE_TYPE not in fields or _numbers(fields[_SUBFILE_TYPE], order)[0] != _OLD_REDUCED


def _file_of(fields: dict[int, _Field], data: bytes, order: str, big: bool) -> bytes:
    """A file with one directory: header, directory, values that do not fit into it, then strips or tiles."""
    pointer, count_form, entry, inline, head = ("Q", "Q", 20, 8, 16) if big else ("I", "H", 12, 4, 8)
    kept = [fields[tag] for tag in sorted(fields) if tag not in _FOREIGN_PLACES]
    places = {tag: _numbers(fields[tag], order) for tag in _OFFSETS if tag in fields}
    kind, form = (_LONG8, "Q") if big else (_LONG, "I")
    start = head + struct.calcsize(order + count_form) + entry * len(kept) + struct.calcsize(order + pointer)
    values, pixels = bytearray(), bytearray()
    sizes = [
        len(field.value) if field.tag not in places else field.count * struct.calcsize(order + form)
        for field in kept
    ]
    pixels_at = start + sum(size + size % 2 for size in sizes if size > inline)
    moved: dict[int, bytes] = {}
    for tag, offsets in places.items():
        lengths = _numbers(fields[_OFFSETS[tag]], order)
        if sum(lengths) > len(data):
            raise Rejected("bomb", "The strips of the TIFF overlap.")
        new = []
        for offset, length in zip(offsets, lengths, strict=True):
            new.append(pixels_at + len(pixels))
            pixels += data[offset : offset + length]
        moved[tag] = struct.pack(f"{order}{len(new)}{form}", *new)
    directory = bytearray(struct.pack(order + count_form, len(kept)))
    for field in kept:
        value = moved.get(field.tag, field.value)
        directory += struct.pack(
            order + ("HHQ" if big else "HHI"),
            field.tag,
            kind if field.tag in moved else field.kind,
            field.count,
        )
        if len(value) <= inline:
            directory += value.ljust(inline, b"\0")
        else:
            directory += struct.pack(order + pointer, start + len(values))
            values += value + b"\0" * (len(value) % 2)
    directory += struct.pack(order + pointer, 0)
    header = data[:8] + struct.pack(order + "Q", head) if big else data[:4] + struct.pack(order + "I", head)
    return bytes(header + directory + values + pixels)
