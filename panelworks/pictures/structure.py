"""The structure of a picture file, read before a decoder sees it; here of GIF, text PNM and Targa."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from panelworks.errors import Rejected

MAX_PARTS: Final = 300_000
"""Segments, chunks or blocks of one file. Encoders write blocks of 255 bytes or more, and few small ones."""


@dataclass(frozen=True)
class Structure:
    """A file as its decoder shall read it, and what was found on the way."""

    data: bytes | memoryview
    """What the decoder reads: the file without what it must not stumble over."""
    frames: int = 1
    """Frames of an animation, or pages of a TIFF."""
    notes: tuple[str, ...] = ()
    """What was odd without an effect on the pixels."""
    damage: str | None = None
    """Why the pixels may be wrong; None where nothing says so."""
    info: dict[str, Any] = field(default_factory=dict)
    """Metadata that was read here, under the names that Pillow uses."""


def refuse_parts(what: str) -> Rejected:
    """The error for a file that no honest encoder writes."""
    return Rejected(
        "out_of_proportion", f"The file has {what}, far more than a picture needs, and is not decoded."
    )


GIF_SIGNATURES: Final = (b"GIF87a", b"GIF89a")
LARGE_CANVAS_PIXELS: Final = 16_000_000
MAX_CANVAS_RATIO: Final = 16
"""Pixels of a large canvas over those of its first frame."""
_EXTENSION, _IMAGE = 0x21, 0x2C
_GIF_HEADER_BYTES: Final = 13


def scan_gif(data: bytes, max_frames: int) -> Structure:
    """The first frame as a file of its own, which Pillow reads without a look at the others.

    Frames are counted up to one more than `max_frames`.

    Raises:
        Rejected: `truncated`, no frame in it; `out_of_proportion`, many more blocks than encoders write, or a canvas much
            larger than its first frame.
    """
    canvas = int.from_bytes(data[6:8], "little") * int.from_bytes(data[8:10], "little")
    position = _GIF_HEADER_BYTES + _table_bytes(data[10:11])
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
                    raise refuse_parts(
                        f"a canvas of {canvas / 1e6:.0f} megapixels for a first frame of {width} x {height}"
                    )
            position += 10 + _table_bytes(data[position + 9 : position + 10]) + 1
        else:
            break
        while position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            if blocks > MAX_PARTS:
                raise refuse_parts(f"more than {MAX_PARTS} blocks")
        position += 1
        blocks += 1
        if blocks > MAX_PARTS:
            raise refuse_parts(f"more than {MAX_PARTS} blocks")
        if kind == _IMAGE:
            frames += 1
            end = end or position
    if not frames:
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    return Structure(data[:end] + b";" if end < len(data) else data, frames=frames)


def _table_bytes(flags: bytes) -> int:
    """Bytes of the colour table that a byte of flags announces."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


_PNM_HEADER_BYTES: Final = 65_536
"""Longest header with its comments."""
_PNM_SPACE: Final = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PNM_HEADER: Final = {
    kind: re.compile(rb"P[1-6]" + (_PNM_SPACE + rb"(\d{1,9})") * numbers + rb"\s")
    for kind, numbers in ((b"1", 2), (b"2", 3), (b"3", 3), (b"4", 2), (b"5", 3), (b"6", 3))
}
_PNM_CHANNELS: Final = {b"1": 1, b"2": 1, b"3": 3}
_PNM_BINARY: Final = {b"1": b"4", b"2": b"5", b"3": b"6"}


def is_pnm(data: bytes) -> bool:
    """Does it begin as a bitmap, graymap or pixmap?"""
    return data[:1] == b"P" and data[1:2] in _PNM_HEADER and (data[2:3].isspace() or data[2:3] == b"#")


def scan_pnm(data: bytes, max_pixels: int) -> Structure:
    """The file with a header without comments; plain pixels become binary ones.

    Raises:
        Rejected: `out_of_proportion`, a header of more than 64 KiB; `damaged`, no header; `truncated`, too few pixels.
    """
    kind = data[1:2]
    header = _PNM_HEADER[kind].match(data[:_PNM_HEADER_BYTES])
    if header is None and b"#" in data[:_PNM_HEADER_BYTES] and len(data) > _PNM_HEADER_BYTES:
        raise refuse_parts("a header of more than 64 KiB")
    if header is None:
        raise Rejected("damaged", "The PNM picture's header is damaged and cannot be read.")
    width, height, *rest = (int(number) for number in header.groups())
    most = rest[0] if rest else 1
    body = data[header.end() :]
    if kind in _PNM_BINARY and width * height <= max_pixels and 0 < most < 65_536:
        body = _binary(kind, body, width, height, most)
    numbers = b" ".join(str(number).encode() for number in (width, height, *rest))
    return Structure(b"P" + _PNM_BINARY.get(kind, kind) + b"\n" + numbers + b"\n" + body)


def _binary(kind: bytes, body: bytes, width: int, height: int, most: int) -> bytes:
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
"""The byte of the header that holds the number of alpha bits and the origin."""
TARGA_ALPHA_BITS: Final = 0x0F
"""The alpha bits of a pixel in that byte."""
_TARGA_FOOTER: Final = b"TRUEVISION-XFILE.\x00"
_TARGA_HEADER_BYTES: Final = 18
_PLAIN, _RUN_LENGTHS = (1, 2, 3), (9, 10, 11)
"""Image types without and with run-length encoding: palette, colour, gray."""
_TARGA_MAX_TRAILING_BYTES: Final = 4096
"""What may follow the pixels of a file without a footer."""


def is_targa(data: bytes) -> bool:
    """Can this be nothing but a TGA?"""
    if len(data) <= _TARGA_HEADER_BYTES:
        return False
    palette, kind, descriptor, depth = data[1], data[2], data[17], data[16]
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    is_indexed = kind in (1, 9)
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind & 7, ())
    if kind not in _PLAIN + _RUN_LENGTHS or depth not in depths or not width or not height:
        return False
    if palette > 1 or is_indexed != bool(palette) or descriptor & 0xC0 or (not palette and any(data[3:8])):
        return False
    entries, bits = int.from_bytes(data[5:7], "little"), data[7]
    start = _TARGA_HEADER_BYTES + data[0] + (entries * ((bits + 7) // 8) if palette else 0)
    size = width * height * depth // 8
    if data.endswith(_TARGA_FOOTER):
        return True
    if kind in _PLAIN:
        return start + size <= len(data) <= start + size + _TARGA_MAX_TRAILING_BYTES
    # A run of up to 128 pixels takes at least one byte and a pixel.
    return start + size // 128 <= len(data) <= start + size + size // 128 + _TARGA_MAX_TRAILING_BYTES
