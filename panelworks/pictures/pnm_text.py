"""PNM: its header within bounds, and its plain variants, which Pillow reads number by number, through NumPy."""

import re
from typing import Final

import numpy as np

from panelworks.errors import Rejected
from panelworks.pictures.structure import Structure, refuse_parts

_HEADER_BYTES: Final = 65_536
"""Longest header with its comments."""
_SPACE: Final = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER: Final = {
    kind: re.compile(rb"P[1-6]" + (_SPACE + rb"(\d{1,9})") * numbers + rb"\s")
    for kind, numbers in ((b"1", 2), (b"2", 3), (b"3", 3), (b"4", 2), (b"5", 3), (b"6", 3))
}
_CHANNELS: Final = {b"1": 1, b"2": 1, b"3": 3}
_BINARY: Final = {b"1": b"4", b"2": b"5", b"3": b"6"}


def is_pnm(data: bytes) -> bool:
    """Does it begin as a bitmap, graymap or pixmap?"""
    return data[:1] == b"P" and data[1:2] in _HEADER and (data[2:3].isspace() or data[2:3] == b"#")


def scan_pnm(data: bytes, max_pixels: int) -> Structure:
    """The file with a header without comments; plain pixels become binary ones.

    Raises:
        Rejected: `out_of_proportion`, a header of more than 64 KiB; `damaged`, no header; `truncated`, too few pixels.
    """
    kind = data[1:2]
    header = _HEADER[kind].match(data[:_HEADER_BYTES])
    if header is None and b"#" in data[:_HEADER_BYTES] and len(data) > _HEADER_BYTES:
        raise refuse_parts("a header of more than 64 KiB")
    if header is None:
        raise Rejected("damaged", "The PNM picture's header is damaged and cannot be read.")
    width, height, *rest = (int(number) for number in header.groups())
    most = rest[0] if rest else 1
    body = data[header.end() :]
    if kind in _BINARY and width * height <= max_pixels and 0 < most < 65_536:
        body = _binary(kind, body, width, height, most)
    numbers = b" ".join(str(number).encode() for number in (width, height, *rest))
    return Structure(b"P" + _BINARY.get(kind, kind) + b"\n" + numbers + b"\n" + body)


def _binary(kind: bytes, body: bytes, width: int, height: int, most: int) -> bytes:
    count = width * height * _CHANNELS[kind]
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
