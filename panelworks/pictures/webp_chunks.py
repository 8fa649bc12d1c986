"""WebP: its chunks, and decoding with a check that the data lasts exactly as long as the picture.

libwebp does not report damage: every sequence of bits decodes to some picture. But a sound stream ends where the picture
ends. Where the picture is complete although the last bytes of the stream are missing, the stream was damaged before.
"""

import struct
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures.structure import Structure, refuse_parts

MAX_CHUNKS: Final = 10_000
LARGE_CANVAS_PIXELS: Final = 16_000_000
MAX_CANVAS_RATIO: Final = 4
"""Pixels of a large canvas over those of its first frame: encoders make the first frame as large as the canvas."""
_TAIL_BYTES: Final = 8
"""Without so many last bytes a sound stream is incomplete; encoders round up by at most three."""
_SMALLEST_FILE_BYTES: Final = 32
"""OpenCV refuses smaller files, which a picture of one pixel may be."""
_BITSTREAMS: Final = (b"VP8 ", b"VP8L")

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # a damaged picture is our result, not a line on standard error


def scan_webp(data: bytes, max_frames: int) -> Structure:
    """The still picture or first frame of a WebP file as a file of its own.

    Raises:
        Rejected: `truncated`, the file is shorter than it says; `out_of_proportion`, a canvas much larger than its
            first frame, or too many chunks; `damaged`, no picture in it.
    """
    size = int.from_bytes(data[4:8], "little") + 8
    notes = []
    if size > len(data) + 1:  # the byte of padding behind the last chunk is often forgotten
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    if len(data) > size + 1 and data[size:].strip(b"\x00"):
        notes.append("the file continues behind the picture")
    canvas: tuple[int, int] | None = None
    info: dict[str, object] = {}
    frames, still, place = 0, b"", (0, 0)
    for kind, payload in _chunks(data, 12, size):
        if kind == b"VP8X" and len(payload) >= 10:
            canvas = (_uint24(payload, 4) + 1, _uint24(payload, 7) + 1)
        elif kind == b"ICCP":
            info["icc_profile"] = bytes(payload)
        elif kind == b"EXIF":
            info["exif"] = bytes(payload)
        elif kind == b"XMP ":
            info["xmp"] = bytes(payload)
        elif kind == b"ANMF" and len(payload) > 16:
            frames += 1
            if frames == 1:
                place = (2 * _uint24(payload, 0), 2 * _uint24(payload, 3))
                still = _still(_chunks(payload, 16, len(payload)))
            if frames > max_frames:
                break
    if not frames:
        still = _still(_chunks(data, 12, size))
    if not still:
        raise Rejected("damaged", "The picture's data is damaged and cannot be read.")
    frame = _size_of(still)
    canvas = canvas or frame
    if canvas[0] * canvas[1] > max(LARGE_CANVAS_PIXELS, MAX_CANVAS_RATIO * frame[0] * frame[1]):
        raise refuse_parts(
            f"a canvas of {canvas[0]} x {canvas[1]} pixels for a first frame of {frame[0]} x {frame[1]}"
        )
    info |= {"size": canvas, "place": place}
    return Structure(still, frames=max(frames, 1), notes=tuple(notes), info=info)


def load_webp(structure: Structure) -> tuple[Image.Image, str | None]:
    """The picture of `scan_webp`, and why it may be damaged.

    Raises:
        Rejected: `damaged`, it cannot be decoded.
    """
    pixels = _decoded(structure.data)
    if pixels is None:
        raise Rejected("damaged", "The picture's data is damaged and cannot be read.")
    cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB, dst=pixels)
    image = Image.fromarray(pixels)
    canvas = structure.info["size"]
    if image.size != canvas:
        whole = Image.new("RGBA", canvas)
        whole.paste(image, structure.info["place"])
        image = whole
    image.info = {
        name: structure.info[name] for name in ("icc_profile", "exif", "xmp") if name in structure.info
    }
    damage = None
    if _decoded(_shortened(structure.data)) is not None:
        damage = "the data does not end where the picture ends"
    return image, damage


def _decoded(data: bytes | memoryview) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None":
    padded = bytes(data).ljust(_SMALLEST_FILE_BYTES, b"\x00")
    try:
        pixels = cv2.imdecode(np.frombuffer(padded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def _chunks(data: bytes | memoryview, start: int, stop: int) -> Iterator[tuple[bytes, memoryview]]:
    view, count = memoryview(data), 0
    while start + 8 <= min(stop, len(view)):
        count += 1
        if count > MAX_CHUNKS:
            raise refuse_parts(f"more than {MAX_CHUNKS} chunks")
        size = int.from_bytes(view[start + 4 : start + 8], "little")
        yield bytes(view[start : start + 4]), view[start + 8 : start + 8 + size]
        start += 8 + size + (size & 1)


def _still(chunks: Iterator[tuple[bytes, memoryview]]) -> bytes:
    """A WebP file of the first bitstream and its alpha channel; empty when there is none."""
    alpha: memoryview | None = None
    for kind, payload in chunks:
        if kind == b"ALPH" and alpha is None:
            alpha = payload
        elif kind in _BITSTREAMS:
            return _file(kind, payload, alpha if kind == b"VP8 " else None)
    return b""


def _file(kind: bytes, payload: bytes | memoryview, alpha: bytes | memoryview | None) -> bytes:
    parts = [_chunk(kind, payload)]
    if alpha is not None:
        width, height = _frame_size(kind, payload)
        extended = (
            struct.pack("<I", 0x10) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        )
        parts = [_chunk(b"VP8X", extended), _chunk(b"ALPH", alpha), *parts]
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(kind: bytes, payload: bytes | memoryview) -> bytes:
    return b"".join((kind, struct.pack("<I", len(payload)), payload, b"\x00" * (len(payload) & 1)))


def _size_of(still: bytes) -> tuple[int, int]:
    kind, payload = next(one for one in _chunks(still, 12, len(still)) if one[0] in _BITSTREAMS)
    return _frame_size(kind, payload)


def _frame_size(kind: bytes, payload: bytes | memoryview) -> tuple[int, int]:
    """Width and height that a bitstream states (RFC 9649: 2.5 for VP8, 3.4 for VP8L)."""
    if kind == b"VP8 ":
        width, height = (int.from_bytes(payload[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return max(width, 1), max(height, 1)
    bits = int.from_bytes(payload[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _shortened(still: bytes | memoryview) -> bytes:
    """The same file without the last bytes of its bitstream, zero padding not counted."""
    alpha: memoryview | None = None
    for kind, payload in _chunks(still, 12, len(still)):
        if kind == b"ALPH":
            alpha = payload
        elif kind in _BITSTREAMS:
            used = bytes(payload).rstrip(b"\x00")
            return _file(kind, used[: max(len(used) - _TAIL_BYTES, 0)], alpha)
    return b""


def _uint24(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")
