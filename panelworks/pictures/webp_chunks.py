"""The chunks of a WebP, and decoding with a check that the data ends where the picture ends.

libwebp does not report damage: every sequence of bits decodes to some picture. But a valid stream ends where the
picture ends. If the picture is complete although the last bytes of the stream are missing, the stream was damaged
before.
"""

import struct
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures.structure import Structure, excess_error

MAX_CHUNKS: Final = 10_000
LARGE_CANVAS_PIXELS: Final = 16_000_000
MAX_CANVAS_RATIO: Final = 4
"""Maximum ratio of the pixels of a large canvas to those of its first frame. Encoders make both equal."""
_TAIL_BYTES: Final = 8
"""A valid stream is incomplete without this number of last bytes. Encoders round up by at most three."""
_MIN_FILE_BYTES: Final = 32
"""OpenCV refuses smaller files, such as a picture of one pixel."""
_BITSTREAMS: Final = (b"VP8 ", b"VP8L")
DAMAGE: Final = "the data does not end where the picture ends"

cv2.utils.logging.setLogLevel(
    cv2.utils.logging.LOG_LEVEL_SILENT
)  # damage is reported in the result, not on standard error


def scan_webp(data: bytes, max_frames: int) -> Structure:
    """Extract the still picture or first frame of a WebP file as a separate file.

    Raises:
        Rejected: `truncated`, the file is shorter than stated; `out_of_proportion`, a canvas much larger than its
            first frame, or too many chunks; `damaged`, no picture in it.
    """
    size = int.from_bytes(data[4:8], "little") + 8
    notes = []
    is_cut = size > len(data) + 1  # the padding byte after the last chunk is often missing
    if is_cut and not _has_complete_frame(data):
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    if is_cut:
        notes.append("the animation ends early")
    if len(data) > size + 1 and data[size:].strip(b"\x00"):
        notes.append("the file continues after the picture")
    canvas: tuple[int, int] | None = None
    info: dict[str, object] = {}
    frames, still, place = 0, b"", (0, 0)
    for kind, payload in iterate_chunks(data, 12, size):
        if kind == b"VP8X" and len(payload) >= 10:
            canvas = (uint24(payload, 4) + 1, uint24(payload, 7) + 1)
        elif kind == b"ICCP":
            info["icc_profile"] = bytes(payload)
        elif kind == b"EXIF":
            info["exif"] = bytes(payload)
        elif kind == b"XMP ":
            info["xmp"] = bytes(payload)
        elif kind == b"ANMF" and len(payload) > 16:
            frames += 1
            if frames == 1:
                place = (2 * uint24(payload, 0), 2 * uint24(payload, 3))
                still = extract_still(iterate_chunks(payload, 16, len(payload)))
            if frames > max_frames:
                break
    if not frames:
        still = extract_still(iterate_chunks(data, 12, size))
    if not still:
        raise Rejected("damaged", "The picture's data is damaged and cannot be read.")
    frame = _read_size(still)
    canvas = canvas or frame
    if canvas[0] * canvas[1] > max(LARGE_CANVAS_PIXELS, MAX_CANVAS_RATIO * frame[0] * frame[1]):
        raise excess_error(
            f"a canvas of {canvas[0]} x {canvas[1]} pixels for a first frame of {frame[0]} x {frame[1]}"
        )
    info |= {"size": canvas, "place": place}
    return Structure(still, frames=max(frames, 1), notes=tuple(notes), info=info)


def load_webp(structure: Structure) -> tuple[Image.Image, str | None]:
    """Load the picture of `scan_webp`. Return it and the reason why it may be damaged.

    Raises:
        Rejected: `damaged`, it cannot be decoded.
    """
    pixels = _decode(structure.data)
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
    if _decode(_shorten(structure.data)) is not None:
        damage = DAMAGE
    return image, damage


def _has_complete_frame(data: bytes) -> bool:
    """Does an animation contain all of its first frame?"""
    for kind, payload in iterate_chunks(data, 12, len(data)):
        if kind == b"ANMF":
            return any(
                name in _BITSTREAMS and int.from_bytes(payload[at - 4 : at], "little") <= len(payload) - at
                for name, at in _iterate_places(payload)
            )
    return False


def _iterate_places(frame: memoryview) -> Iterator[tuple[bytes, int]]:
    """Yield the kind of each chunk of a frame, and where its content begins."""
    at = 24
    while at <= len(frame):
        yield bytes(frame[at - 8 : at - 4]), at
        size = int.from_bytes(frame[at - 4 : at], "little")
        at += size + (size & 1) + 8


def load_frame(chunks: memoryview) -> Image.Image:
    """Decode a frame of an animation, RGBA, from its chunks.

    Raises:
        Rejected: `damaged`, it cannot be decoded.
    """
    pixels = _decode(extract_still(iterate_chunks(chunks, 0, len(chunks))))
    if pixels is None:
        raise Rejected("damaged", "The picture's data is damaged and cannot be read.")
    has_alpha = pixels.shape[2] == 4
    return Image.fromarray(
        cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if has_alpha else cv2.COLOR_BGR2RGBA).astype(
            np.uint8, copy=False
        )
    )


def find_damage(chunks: memoryview) -> str | None:
    """Why the pixels of a frame of an animation may be wrong; None if nothing was found."""
    still = extract_still(iterate_chunks(chunks, 0, len(chunks)))
    return None if _decode(_shorten(still)) is None else DAMAGE


def _decode(data: bytes | memoryview) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None":
    padded = bytes(data).ljust(_MIN_FILE_BYTES, b"\x00")
    try:
        pixels = cv2.imdecode(np.frombuffer(padded, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def iterate_chunks(data: bytes | memoryview, start: int, stop: int) -> Iterator[tuple[bytes, memoryview]]:
    view, count = memoryview(data), 0
    while start + 8 <= min(stop, len(view)):
        count += 1
        if count > MAX_CHUNKS:
            raise excess_error(f"more than {MAX_CHUNKS} chunks")
        size = int.from_bytes(view[start + 4 : start + 8], "little")
        yield bytes(view[start : start + 4]), view[start + 8 : start + 8 + size]
        start += 8 + size + (size & 1)


def extract_still(chunks: Iterator[tuple[bytes, memoryview]]) -> bytes:
    """Make a WebP file of the first bitstream and its alpha channel; empty if there is none."""
    alpha: memoryview | None = None
    for kind, payload in chunks:
        if kind == b"ALPH" and alpha is None:
            alpha = payload
        elif kind in _BITSTREAMS:
            return _make_file(kind, payload, alpha if kind == b"VP8 " else None)
    return b""


def _make_file(kind: bytes, payload: bytes | memoryview, alpha: bytes | memoryview | None) -> bytes:
    parts = [make_chunk(kind, payload)]
    if alpha is not None:
        width, height = _frame_size(kind, payload)
        extended = (
            struct.pack("<I", 0x10) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        )
        parts = [make_chunk(b"VP8X", extended), make_chunk(b"ALPH", alpha), *parts]
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def make_chunk(kind: bytes, payload: bytes | memoryview) -> bytes:
    return b"".join((kind, struct.pack("<I", len(payload)), payload, b"\x00" * (len(payload) & 1)))


def _read_size(still: bytes) -> tuple[int, int]:
    kind, payload = next(one for one in iterate_chunks(still, 12, len(still)) if one[0] in _BITSTREAMS)
    return _frame_size(kind, payload)


def _frame_size(kind: bytes, payload: bytes | memoryview) -> tuple[int, int]:
    """Width and height that a bitstream states (RFC 9649: 2.5 for VP8, 3.4 for VP8L)."""
    if kind == b"VP8 ":
        width, height = (int.from_bytes(payload[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return max(width, 1), max(height, 1)
    bits = int.from_bytes(payload[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _shorten(still: bytes | memoryview) -> bytes:
    """Remove the last bytes of the file's bitstream, not counting zero padding."""
    alpha: memoryview | None = None
    for kind, payload in iterate_chunks(still, 12, len(still)):
        if kind == b"ALPH":
            alpha = payload
        elif kind in _BITSTREAMS:
            used = bytes(payload).rstrip(b"\x00")
            return _make_file(kind, used[: max(len(used) - _TAIL_BYTES, 0)], alpha)
    return b""


def uint24(data: memoryview, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")
