"""The structure of a picture file, which is checked before a decoder reads it; here of GIF, plain PNM and Targa."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from panelworks.errors import Rejected

MAX_PARTS: Final = 300_000
"""Maximum number of segments, chunks or blocks of a file. Encoders write blocks of 255 bytes or more, and few small
ones."""


@dataclass(frozen=True)
class Structure:
    """A file in the form in which it is decoded, and the findings of the scan."""

    data: bytes | memoryview
    """Input of the decoder: the file without the parts that it cannot handle."""
    frames: int = 1
    """Frames of an animation, or pages of a TIFF."""
    notes: tuple[str, ...] = ()
    """Irregularities that do not affect the pixels."""
    damage: str | None = None
    """Why the pixels may be wrong; None if nothing was found."""
    info: dict[str, Any] = field(default_factory=dict)
    """Metadata of the file, under Pillow's names."""


def excess_error(what: str) -> Rejected:
    """Return the error for a file with excessive parts, which encoders do not write."""
    return Rejected(
        "out_of_proportion", f"The file has {what}, far more than a picture needs; it is not decoded."
    )


GIF_SIGNATURES: Final = (b"GIF87a", b"GIF89a")
LARGE_CANVAS_PIXELS: Final = 16_000_000
MAX_CANVAS_RATIO: Final = 16
"""Maximum ratio of the pixels of a large canvas to those of its first frame."""
_EXTENSION, _IMAGE = 0x21, 0x2C
_GIF_HEADER_BYTES: Final = 13


def scan_gif(data: bytes, max_frames: int) -> Structure:
    """Extract the first frame as a separate file, so that Pillow does not read the others.

    Frames are counted up to one more than `max_frames`.

    Raises:
        Rejected: `truncated`, there is no frame; `out_of_proportion`, many more blocks than encoders write, or a canvas much
            larger than its first frame.
    """
    canvas = int.from_bytes(data[6:8], "little") * int.from_bytes(data[8:10], "little")
    position = _GIF_HEADER_BYTES + _colour_table_bytes(data[10:11])
    frames, end, blocks = 0, 0, 0
    while position < len(data) and frames <= max_frames:
        kind = data[position]
        if kind == _EXTENSION:
            position += 2
        elif kind == _IMAGE:
            if not frames:
                width, height = (
                    int.from_bytes(data[position + at : position + at + 2], "little") for at in (5, 7)
                )
                if canvas > max(LARGE_CANVAS_PIXELS, MAX_CANVAS_RATIO * width * height):
                    raise excess_error(
                        f"a canvas of {canvas / 1e6:.0f} megapixels for a first frame of {width} x {height}"
                    )
            position += 10 + _colour_table_bytes(data[position + 9 : position + 10]) + 1
        else:
            break
        while position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            if blocks > MAX_PARTS:
                raise excess_error(f"more than {MAX_PARTS} blocks")
        position += 1
        blocks += 1
        if blocks > MAX_PARTS:
            raise excess_error(f"more than {MAX_PARTS} blocks")
        if kind == _IMAGE:
            frames += 1
            end = end or position
    if not frames:
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    return Structure(data[:end] + b";" if end < len(data) else data, frames=frames)


def _colour_table_bytes(flags: bytes) -> int:
    """Size of the colour table according to a byte of flags."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


_PNM_HEADER_BYTES: Final = 65_536
"""Maximum length of the header including comments."""
_PNM_SPACE: Final = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM_HEADER: Final = {
    kind: re.compile(rb"P[1-6]" + (_PNM_SPACE + rb"(\d{1,9})") * numbers + rb"\s")
    for kind, numbers in ((b"1", 2), (b"2", 3), (b"3", 3), (b"4", 2), (b"5", 3), (b"6", 3))
}
_PNM_CHANNELS: Final = {b"1": 1, b"2": 1, b"3": 3}
_PNM_BINARY: Final = {b"1": b"4", b"2": b"5", b"3": b"6"}


def is_pnm(data: bytes) -> bool:
    """Whether the file begins like a bitmap, graymap or pixmap."""
    return data[:1] == b"P" and data[1:2] in _PNM_HEADER and (data[2:3].isspace() or data[2:3] == b"#")


def scan_pnm(data: bytes, max_pixels: int) -> Structure:
    """Remove comments from the header and convert plain pixels to binary ones.

    Raises:
        Rejected: `out_of_proportion`, a header of more than 64 KiB; `damaged`, no header; `truncated`, too few pixels.
    """
    kind = data[1:2]
    header = _PNM_HEADER[kind].match(data[:_PNM_HEADER_BYTES])
    if header is None and b"#" in data[:_PNM_HEADER_BYTES] and len(data) > _PNM_HEADER_BYTES:
        raise excess_error("a header of more than 64 KiB")
    if header is None:
        raise Rejected("damaged", "The PNM picture's header is damaged and cannot be read.")
    width, height, *rest = (int(number) for number in header.groups())
    most = rest[0] if rest else 1
    body = data[header.end() :]
    if kind in _PNM_BINARY and width * height <= max_pixels and 0 < most < 65_536:
        body = _to_binary_pixels(kind, body, width, height, most)
    numbers = b" ".join(str(number).encode() for number in (width, height, *rest))
    return Structure(b"P" + _PNM_BINARY.get(kind, kind) + b"\n" + numbers + b"\n" + body)


def _to_binary_pixels(kind: bytes, body: bytes, width: int, height: int, most: int) -> bytes:
    count = width * height * _PNM_CHANNELS[kind]
    if len(body) < (count if kind == b"1" else 2 * count - 1):
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    if b"#" in body:
        body = re.sub(rb"#[^\r\n]*", b"", body)
    if kind == b"1":
        bits = np.frombuffer(body, np.uint8)
        bits = bits[(bits == ord("0")) | (bits == ord("1"))][:count] & 1
        if len(bits) < count:
            raise Rejected("truncated", "The picture's data ends before the picture does.")
        return np.packbits(bits.reshape(height, width), axis=1).tobytes()
    try:
        values = np.fromstring(body, dtype=np.uint16, count=count, sep=" ")
    except (ValueError, DeprecationWarning):
        raise Rejected("damaged", "The PNM picture's numbers are damaged and cannot be read.") from None
    if len(values) < count:
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    return np.minimum(values, most).astype(">u2" if most > 255 else np.uint8).tobytes()


TARGA_DESCRIPTOR: Final = 17
"""Offset of the header byte with the number of alpha bits and the origin."""
TARGA_ALPHA_BITS: Final = 0x0F
"""Mask of the number of alpha bits in that byte."""
_TARGA_FOOTER: Final = b"TRUEVISION-XFILE.\x00"
_TARGA_HEADER_BYTES: Final = 18
_PLAIN_TYPES, _RUN_LENGTH_TYPES = (1, 2, 3), (9, 10, 11)
"""Image types without and with run-length encoding: palette, colour, gray."""
_TARGA_MAX_TRAILING_BYTES: Final = 4096
"""Maximum number of bytes after the pixels of a file without a footer."""


def is_targa(data: bytes) -> bool:
    """Whether the file can only be a TGA."""
    if len(data) <= _TARGA_HEADER_BYTES:
        return False
    palette, kind, descriptor, depth = data[1], data[2], data[17], data[16]
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    is_indexed = kind in (1, 9)
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind & 7, ())
    if kind not in _PLAIN_TYPES + _RUN_LENGTH_TYPES or depth not in depths or not width or not height:
        return False
    if palette > 1 or is_indexed != bool(palette) or descriptor & 0xC0 or (not palette and any(data[3:8])):
        return False
    entries, bits = int.from_bytes(data[5:7], "little"), data[7]
    start = _TARGA_HEADER_BYTES + data[0] + (entries * ((bits + 7) // 8) if palette else 0)
    size = width * height * depth // 8
    if data.endswith(_TARGA_FOOTER):
        return True
    if kind in _PLAIN_TYPES:
        return start + size <= len(data) <= start + size + _TARGA_MAX_TRAILING_BYTES
    # A run of up to 128 pixels takes at least one byte and a pixel.
    return start + size // 128 <= len(data) <= start + size + size // 128 + _TARGA_MAX_TRAILING_BYTES
