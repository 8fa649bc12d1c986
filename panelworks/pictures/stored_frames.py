"""The frames of an animation as its file stores them: where each is placed, how long it is shown, how it is decoded.

Only the structure of the file is read. Each frame is decoded as a still picture when it is needed.
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import png_chunks, webp_chunks
from panelworks.pictures.avif_boxes import complete_sequence, is_sequence, read_delays, read_plays
from panelworks.pictures.structure import GIF_SIGNATURES, MAX_PARTS, Structure, excess_error

Disposal = Literal["keep", "clear", "restore"]
"""What happens to the rectangle of a frame before the next frame: nothing, it becomes transparent, or it becomes what it was."""


@dataclass(frozen=True)
class StoredFrame:
    """One frame of a file."""

    place: tuple[int, int]
    """Left and top on the canvas; the frame may reach beyond it."""
    size: tuple[int, int]
    delay: Fraction
    """Milliseconds, as the file states them."""
    load: Callable[[], Image.Image]
    """Decodes the frame. It raises any exception if its data are damaged."""
    disposal: Disposal = "keep"
    blend: bool = True
    """Drawn over the canvas according to its opacity; otherwise it replaces the rectangle."""
    find_damage: Callable[[], str | None] = lambda: None
    """Why the pixels may be wrong although they were decoded; None if nothing was found."""


@dataclass(frozen=True)
class StoredAnimation:
    """The structure of an animated file."""

    format: str
    canvas: tuple[int, int]
    """Width and height."""
    frames: tuple[StoredFrame, ...]
    plays: int
    """How often it is played; 0: without end."""
    is_cut: bool = False
    """Is the last frame that the file begins or states missing?"""
    info: dict[str, Any] = field(default_factory=dict)
    """Colour profile, colour chunks and EXIF, under Pillow's names."""


def scan_frames(data: bytes, max_frames: int, max_bytes: int) -> StoredAnimation | None:
    """The frames of a GIF, WebP, PNG or AVIF; None for other files, and for still pictures.

    Raises:
        Rejected: `out_of_proportion`, far more parts than encoders write; `too_many_frames`.
    """
    found: StoredAnimation | None
    if data.startswith(GIF_SIGNATURES):
        found = _scan_gif(data, max_frames)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found = _scan_webp(data, max_frames)
    elif data.startswith(png_chunks.SIGNATURE):
        found = _scan_png(data, max_frames)
    elif is_sequence(data):
        found = _open_avif(data, max_bytes)
    else:
        return None
    if found is None or len(found.frames) < 2:
        return None
    if len(found.frames) > max_frames:
        raise Rejected(
            "too_many_frames",
            f"The animation has more than {max_frames} frames; at most {max_frames} are read.",
        )
    return found


_GIF_HEADER_BYTES: Final = 13
_EXTENSION, _IMAGE = 0x21, 0x2C
_CONTROL, _APPLICATION = 0xF9, 0xFF
_LOOPING: Final = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_GIF_DISPOSALS: Final[dict[int, Disposal]] = {2: "clear", 3: "restore"}


def _scan_gif(data: bytes, max_frames: int) -> StoredAnimation:
    """GIF89a. A loop count of n means n repetitions, so n + 1 plays; without one it is played once."""
    width, height = struct.unpack("<HH", data[6:10].ljust(4, b"\x00"))
    table = _GIF_HEADER_BYTES + colour_table_bytes(data[10:11])
    frames: list[StoredFrame] = []
    control, plays, position, blocks = b"", 1, table, 0
    while position < len(data) and len(frames) <= max_frames:
        begin, kind = position, data[position]
        if kind == _EXTENSION:
            position += 2
        elif kind == _IMAGE and position + 11 <= len(data):
            position += 11 + colour_table_bytes(data[position + 9 : position + 10])
        else:
            return _gif(width, height, frames, plays, is_cut=kind == _IMAGE)
        while position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
        blocks, position = blocks + 1, position + 1
        if blocks > MAX_PARTS:
            raise excess_error(f"more than {MAX_PARTS} blocks")
        if position > len(data):
            return _gif(width, height, frames, plays, is_cut=kind == _IMAGE)
        block = memoryview(data)[begin:position]
        if kind == _IMAGE:
            frames.append(_gif_frame(data[:table], control, block))
            control = b""
        elif block[1] == _CONTROL and len(block) == 8:
            control = bytes(block)
        elif block[1] == _APPLICATION and bytes(block[3:14]) in _LOOPING and len(block) >= 19:
            count = int.from_bytes(block[16:18], "little")
            plays = count + 1 if count else 0
    return _gif(width, height, frames, plays, is_cut=False)


def _gif(width: int, height: int, frames: list[StoredFrame], plays: int, *, is_cut: bool) -> StoredAnimation:
    """As browsers do it, a canvas that is smaller than the first frame is enlarged."""
    if frames:
        (left, top), size = frames[0].place, frames[0].size
        width, height = max(width, left + size[0]), max(height, top + size[1])
    return StoredAnimation("gif", (width, height), tuple(frames), plays, is_cut)


def _gif_frame(header: bytes, control: bytes, block: memoryview) -> StoredFrame:
    left, top, width, height = struct.unpack("<4H", block[1:9])
    flags = control[3] if control else 0
    delay = int.from_bytes(control[4:6], "little") if control else 0
    return StoredFrame(
        place=(left, top),
        size=(width, height),
        delay=Fraction(10 * delay),
        load=partial(_load_gif_frame, header, control, block),
        disposal=_GIF_DISPOSALS.get(flags >> 2 & 7, "keep"),
    )


def _load_gif_frame(header: bytes, control: bytes, block: memoryview) -> Image.Image:
    """Decode a frame as a GIF of its own, whose canvas has the size of the frame."""
    size = bytes(block[5:9])
    if 0 in struct.unpack("<2H", size):
        return Image.new("RGBA", (1, 1))
    alone = control[:3] + bytes([control[3] & 1]) + control[4:] if control else b""
    parts = (b"GIF89a", size, header[10:], alone, b",\x00\x00\x00\x00", bytes(block[5:]), b";")
    with Image.open(io.BytesIO(b"".join(parts)), formats=("GIF",)) as image:
        return image.convert("RGBA")


def colour_table_bytes(flags: bytes) -> int:
    """Size of the colour table of a GIF according to a byte of flags."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _scan_webp(data: bytes, max_frames: int) -> StoredAnimation | None:
    """RFC 9649, 2.7.1."""
    canvas: tuple[int, int] | None = None
    frames: list[StoredFrame] = []
    plays, info, is_cut = 0, dict[str, Any](), False
    for kind, payload, is_complete in _complete_chunks(data):
        if not is_complete:
            is_cut = True
            break
        if kind == b"VP8X" and len(payload) >= 10:
            if not payload[0] & 2:
                return None
            canvas = (webp_chunks.uint24(payload, 4) + 1, webp_chunks.uint24(payload, 7) + 1)
        elif kind == b"ANIM" and len(payload) >= 6:
            plays = int.from_bytes(payload[4:6], "little")
        elif kind == b"ICCP":
            info["icc_profile"] = bytes(payload)
        elif kind == b"EXIF":
            info["exif"] = bytes(payload)
        elif kind == b"ANMF" and len(payload) > 16:
            frames.append(_webp_frame(payload))
            if len(frames) > max_frames:
                break
    if canvas is None:
        return None
    stated = int.from_bytes(data[4:8], "little") + 8
    return StoredAnimation(
        "webp", canvas, tuple(frames), plays, is_cut=is_cut or stated > len(data) + 1, info=info
    )


def _complete_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield kind, content and whether the file contains all of it."""
    view, position = memoryview(data), 12
    for _ in range(webp_chunks.MAX_CHUNKS):
        if position + 8 > len(data):
            return
        size = int.from_bytes(view[position + 4 : position + 8], "little")
        payload = view[position + 8 : position + 8 + size]
        yield bytes(view[position : position + 4]), payload, len(payload) == size
        position += 8 + size + (size & 1)
    raise excess_error(f"more than {webp_chunks.MAX_CHUNKS} chunks")


def _webp_frame(payload: memoryview) -> StoredFrame:
    left, top, width, height, delay = (webp_chunks.uint24(payload, at) for at in range(0, 15, 3))
    return StoredFrame(
        place=(2 * left, 2 * top),
        size=(width + 1, height + 1),
        delay=Fraction(delay),
        load=partial(webp_chunks.load_frame, payload[16:]),
        disposal="clear" if payload[15] & 1 else "keep",
        blend=not payload[15] & 2,
        find_damage=partial(webp_chunks.find_damage, payload[16:]),
    )


_PNG_DISPOSALS: Final[dict[int, Disposal]] = {1: "clear", 2: "restore"}
_SHARED_CHUNKS: Final = (b"PLTE", b"tRNS")
_CONTROL_BYTES: Final = 26
_DEFAULT_DENOMINATOR: Final = 100


def _scan_png(data: bytes, max_frames: int) -> StoredAnimation | None:
    """APNG (PNG third edition, 11.3.6). A picture before the first frame control is not part of the animation."""
    header, shared = b"", list[bytes]()
    plays: int | None = None
    stated = 0
    begun: list[tuple[bytes, list[memoryview], bool]] = []
    for kind, payload, sound in png_chunks.iterate_chunks(data):
        if kind == b"IHDR":
            header = bytes(payload)
        elif kind == b"acTL" and len(payload) == 8:
            stated, plays = struct.unpack(">II", payload)
        elif kind == b"IDAT" and plays is None:
            return None
        elif kind in _SHARED_CHUNKS:
            shared.append(png_chunks.make_chunk(kind, bytes(payload)))
        elif kind == b"fcTL" and len(payload) == _CONTROL_BYTES:
            if len(begun) > max_frames:
                break
            begun.append((bytes(payload), [], True))
        elif kind in (b"IDAT", b"fdAT") and begun:
            control, parts, was_sound = begun[-1]
            parts.append(payload if kind == b"IDAT" else payload[4:])
            begun[-1] = control, parts, was_sound and sound
    if plays is None or len(header) < 13:
        return None
    info = png_chunks.scan_png(data).info
    frames = [_png_frame(header, tuple(shared), *one) for one in begun if one[1]]
    size = struct.unpack(">II", header[:8])
    return StoredAnimation("png", size, tuple(frames), plays, is_cut=len(frames) < stated, info=info)


def _png_frame(
    header: bytes, shared: tuple[bytes, ...], control: bytes, parts: list[memoryview], sound: bool
) -> StoredFrame:
    width, height, left, top, over, under, disposal, blend = struct.unpack(">4I2H2B", control[4:])
    damage = None if sound else "the checksum of a chunk with pixels is wrong"
    return StoredFrame(
        place=(left, top),
        size=(width, height),
        delay=Fraction(1000 * over, under or _DEFAULT_DENOMINATOR),
        load=partial(_load_png_frame, header, shared, (width, height), parts),
        disposal=_PNG_DISPOSALS.get(disposal, "keep"),
        blend=bool(blend),
        find_damage=lambda: damage,
    )


def _load_png_frame(
    header: bytes, shared: tuple[bytes, ...], size: tuple[int, int], parts: list[memoryview]
) -> Image.Image:
    """Decode a frame as a PNG of its own. Sixteen-bit gray is reduced to 8 bits."""
    alone = b"".join(
        (
            png_chunks.SIGNATURE,
            png_chunks.make_chunk(b"IHDR", struct.pack(">II", *size) + header[8:]),
            *shared,
            png_chunks.make_chunk(b"IDAT", b"".join(parts)),
            png_chunks.make_chunk(b"IEND", b""),
        )
    )
    with Image.open(io.BytesIO(alone), formats=("PNG",)) as opened:
        image, _ = png_chunks.load_png(opened, Structure(alone))
        if image.mode.startswith("I"):
            image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
        return image.convert("RGBA")


def _open_avif(data: bytes, max_bytes: int) -> StoredAnimation | None:
    """An AVIF sequence, whose frames Pillow decodes one by one.

    Pillow reports neither the loop count nor, before a frame is decoded, its delay.
    """
    data, complete = complete_sequence(data, max_bytes)
    with Image.open(io.BytesIO(data), formats=("AVIF",)) as image:
        count, size = int(getattr(image, "n_frames", 1)), image.size
        info = {str(name): image.info[name] for name in ("icc_profile", "exif") if name in image.info}
    sequence, delays = _AvifSequence(data), read_delays(data, count)
    frames = [
        StoredFrame((0, 0), size, delays[index], partial(sequence.load, index), blend=False)
        for index in range(count if complete is None else min(count, complete))
    ]
    return StoredAnimation(
        "avif", size, tuple(frames), read_plays(data), is_cut=complete is not None, info=info
    )


class _AvifSequence:
    """The decoder of a sequence, which is faster if frames are read in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._image: Image.Image | None = None

    def load(self, index: int) -> Image.Image:
        if self._image is None or index == 0:
            self._image = Image.open(io.BytesIO(self._data), formats=("AVIF",))
        self._image.seek(index)
        self._image.load()
        return self._image.convert("RGBA")
