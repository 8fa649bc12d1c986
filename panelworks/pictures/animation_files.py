"""Writing animations as WebP, AVIF and GIF, frame by frame.

Pillow's own writers collect all frames of a WebP or GIF in memory, join identical frames, and choose a palette for each
frame of a GIF, which flickers. Here Pillow encodes single frames, and their chunks are put together: only the rectangle
that changed is stored, every frame keeps its exact delay, and all frames of a GIF share one palette. AVIF needs one
encoder for all frames; Pillow's takes them one by one.

The files do not depend on imageio: it writes animated WebP and GIF through Pillow, and its ffmpeg plugin has a constant
frame rate, so that delays would not be exact.
"""

import io
import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Final, Literal, get_args

import numpy as np
from PIL import Image

from panelworks.pictures import webp_chunks
from panelworks.pictures.animation import round_delays
from panelworks.pictures.avif_boxes import set_plays
from panelworks.pictures.colour import srgb_profile
from panelworks.pictures.encode import encode
from panelworks.pictures.picture import Picture, Pixels, to_image
from panelworks.pictures.stored_frames import colour_table_bytes

AnimatedFormat = Literal["webp", "avif", "gif"]
"""A format for animations."""
ANIMATED_FORMATS: Final[tuple[AnimatedFormat, ...]] = get_args(AnimatedFormat)
Frame = tuple[Picture, int]
"""A picture, and the milliseconds for which it is shown."""
Frames = Callable[[], Iterable[Frame]]
"""Reads the frames once more from the first. All have the same size."""


def write_animation(frames: Frames, format: AnimatedFormat, plays: int, quality: int | None = None) -> bytes:
    """Write an animation.

    Args:
        frames: The frames. They are read once, for GIF twice.
        format: Of the file.
        plays: How often it is played; 0: without end.
        quality: 1..100; None: lossless, which only WebP can do. GIF has no quality.
    """
    if format == "webp":
        writer = WebpWriter(plays, quality)
        for picture, delay in frames():
            writer.add(picture, delay)
        return writer.finish()
    if format == "gif":
        return _write_gif(frames, plays)
    return _write_avif(frames, plays, 100 if quality is None else quality)


_MAX_WEBP_PLAYS: Final = 65_535
_MAX_DELAY: Final = 2**24 - 1
_ANIMATION_FLAG, _ALPHA_FLAG, _PROFILE_FLAG = 0x02, 0x10, 0x20
_REPLACE: Final = 2
"""Flag of a frame that replaces its rectangle instead of being drawn over it."""
_FRAME_CHUNKS: Final = (b"ALPH", b"VP8 ", b"VP8L")


class WebpWriter:
    """Writes an animated WebP (RFC 9649, 2.7). Each frame replaces the rectangle in which it differs from the one before."""

    def __init__(self, plays: int, quality: int | None = None) -> None:
        """`plays` and `quality` as in `write_animation`."""
        self._plays, self._quality = plays, quality
        self._body = io.BytesIO()
        self._before: Pixels | None = None
        self._has_alpha = False

    def add(self, picture: Picture, delay: int) -> None:
        """Add a frame that is shown for `delay` milliseconds. All frames have the same size."""
        after = _planes(picture)
        left, top, right, bottom = _changed_box(self._before, after)
        still = self._encode(picture.region(left, top, right - left, bottom - top))
        chunks = [
            webp_chunks.make_chunk(kind, payload)
            for kind, payload in webp_chunks.iterate_chunks(still, 12, len(still))
            if kind in _FRAME_CHUNKS
        ]
        numbers = (left // 2, top // 2, right - left - 1, bottom - top - 1, min(delay, _MAX_DELAY))
        header = b"".join(number.to_bytes(3, "little") for number in numbers) + bytes([_REPLACE])
        self._body.write(webp_chunks.make_chunk(b"ANMF", b"".join((header, *chunks))))
        self._has_alpha = self._has_alpha or picture.alpha is not None
        self._before = after

    def finish(self) -> bytes:
        """The file."""
        if self._before is None:
            raise ValueError("an animation has at least one frame")
        height, width = self._before.shape[:2]
        flags = _ANIMATION_FLAG | _PROFILE_FLAG | (_ALPHA_FLAG if self._has_alpha else 0)
        canvas = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
        head = b"".join(
            (
                webp_chunks.make_chunk(b"VP8X", struct.pack("<I", flags) + canvas),
                webp_chunks.make_chunk(b"ICCP", srgb_profile()),
                webp_chunks.make_chunk(b"ANIM", struct.pack("<IH", 0, min(self._plays, _MAX_WEBP_PLAYS))),
            )
        )
        size = struct.pack("<I", 4 + len(head) + self._body.tell())
        return b"".join((b"RIFF", size, b"WEBP", head, self._body.getbuffer()))

    def _encode(self, part: Picture) -> bytes:
        if self._quality is None or part.size == (1, 1):
            return _encode_losslessly(part)
        return encode(part, "webp", self._quality)


def _encode_losslessly(picture: Picture) -> bytes:
    """A lossless WebP, also of the colour of transparent pixels."""
    buffer = io.BytesIO()
    image = to_image(picture)
    image = image.convert("RGB" if picture.alpha is None else "RGBA")
    image.save(buffer, "WEBP", lossless=True, quality=30, method=1, exact=True)
    return buffer.getvalue()


def _planes(picture: Picture) -> Pixels:
    """HxWx4, to compare frames."""
    planes = np.empty((picture.height, picture.width, 4), dtype=np.uint8)
    planes[:, :, :3] = picture.pixels
    planes[:, :, 3] = 255 if picture.alpha is None else picture.alpha
    return planes


def _changed_box(before: Pixels | None, after: Pixels, grid: int = 2) -> tuple[int, int, int, int]:
    """The rectangle in which two frames differ: left, top, right, bottom. The corner is a multiple of `grid`.

    Identical frames have a rectangle of one pixel, since a frame cannot be empty.
    """
    height, width = after.shape[:2]
    if before is None:
        return 0, 0, width, height
    changed = before.view(np.uint32)[:, :, 0] != after.view(np.uint32)[:, :, 0]
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not len(rows):
        return 0, 0, 1, 1
    left, top = int(columns[0]) // grid * grid, int(rows[0]) // grid * grid
    right, bottom = int(columns[-1]) + 1, int(rows[-1]) + 1
    return left, top, min(width, -(-right // grid) * grid), min(height, -(-bottom // grid) * grid)


_PALETTE_COLOURS: Final = 255
"""One of the 256 is transparent."""
_TRANSPARENT: Final = 255
_SAMPLES: Final = 12
"""Frames from which the palette is chosen."""
_SAMPLE_SIDE: Final = 256
_MAX_END_DISTANCE: Final = 8
"""Levels between white or black and a colour that it replaces."""
_MIN_OPACITY: Final = 128
_CENTISECOND: Final = 10
"""Milliseconds: the unit of delays in a GIF."""
_MIN_CENTISECONDS: Final = 2
"""Shortest delay that browsers show as it is."""
_MAX_GIF_REPEATS: Final = 65_535
_TRAILER: Final = b";"


def _write_gif(frames: Frames, plays: int) -> bytes:
    """GIF89a with one palette. Delays are rounded to 10 ms without drift."""
    palette, delays, size, has_alpha = _survey(frames)
    times = round_delays((Fraction(delay) for delay in delays), _CENTISECOND)
    body = io.BytesIO()
    table, before = b"", None
    for (picture, _), delay in zip(frames(), times, strict=True):
        after = _planes(picture)
        left, top, right, bottom = _changed_box(None if has_alpha else before, after, grid=1)
        part = picture.region(left, top, right - left, bottom - top)
        table, block = _gif_block(_to_palette(part, palette))
        disposal = 2 if has_alpha else 1  # each frame of a transparent animation is complete
        control = bytes([disposal << 2 | has_alpha]) + struct.pack(
            "<HB", min(max(delay // _CENTISECOND, _MIN_CENTISECONDS), 65_535), _TRANSPARENT
        )
        body.write(b"!\xf9\x04" + control + b"\x00")
        body.write(b"," + struct.pack("<2H", left, top) + block)
        before = after
    repeats = b"" if plays == 1 else struct.pack("<H", min(max(plays - 1, 0), _MAX_GIF_REPEATS))
    looping = b"!\xff\x0bNETSCAPE2.0\x03\x01" + repeats + b"\x00" if repeats else b""
    screen = struct.pack("<2H", *size) + b"\xf7\x00\x00"
    return b"".join((b"GIF89a", screen, table, looping, body.getbuffer(), _TRAILER))


def _survey(frames: Frames) -> tuple[Image.Image, list[int], tuple[int, int], bool]:
    """The palette of all frames, their delays and size, and whether one has transparent pixels."""
    delays: list[int] = []
    samples: list[Image.Image] = []
    size, has_alpha, step = (1, 1), False, 1
    for index, (picture, delay) in enumerate(frames()):
        delays.append(delay)
        size = picture.size
        has_alpha = has_alpha or picture.alpha is not None
        if index % step == 0:
            image = to_image(Picture(picture.rgb()))
            image.thumbnail((_SAMPLE_SIDE, _SAMPLE_SIDE), Image.Resampling.NEAREST)
            samples.append(image)
        if len(samples) == 2 * _SAMPLES:
            samples, step = samples[::2], 2 * step
    sheet = Image.new("RGB", (samples[0].width, sum(one.height for one in samples)))
    for number, image in enumerate(samples):
        sheet.paste(image, (0, number * samples[0].height))
    palette = sheet.quantize(_PALETTE_COLOURS, Image.Quantize.MEDIANCUT)
    palette.putpalette(_with_ends(_complete_colours(palette)))
    return palette, delays, size, has_alpha


def _with_ends(colours: list[int]) -> list[int]:
    """The colours with exact white and black in place of averages near them: paper stays white."""
    table = np.array(colours, dtype=np.int16).reshape(-1, 3)
    for end in (255, 0):
        distances = np.abs(table - end).max(axis=1)
        near = distances <= _MAX_END_DISTANCE
        table[near & (distances == distances.min())] = end
    return [int(value) for value in table.ravel()]


def _complete_colours(palette: Image.Image) -> list[int]:
    """The colours of a palette, completed with the first one to 256: no pixel is given an unused entry."""
    colours = palette.getpalette() or []
    colours = colours[: 3 * _PALETTE_COLOURS]
    return colours + colours[:3] * (_PALETTE_COLOURS + 1 - len(colours) // 3)


def _to_palette(picture: Picture, palette: Image.Image) -> Image.Image:
    """The picture in the colours of a palette, whose last entry stands for transparent pixels."""
    image = to_image(Picture(picture.rgb())).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    indices = np.asarray(image).copy()
    if picture.alpha is not None:
        indices[picture.alpha < _MIN_OPACITY] = _TRANSPARENT
    result = Image.fromarray(indices)
    result.putpalette(_complete_colours(palette))
    return result


def _gif_block(image: Image.Image) -> tuple[bytes, bytes]:
    """The colour table of a frame, and its image block without the place: size, flags and compressed indices."""
    buffer = io.BytesIO()
    image.save(buffer, "GIF", optimize=False, interlace=False)
    data = buffer.getvalue()
    start = 13 + colour_table_bytes(data[10:11])
    position = start
    while data[position] == 0x21:  # extensions
        position += 2
        while data[position]:
            position += 1 + data[position]
        position += 1
    return data[13:start].ljust(768, b"\x00"), data[position + 5 : -len(_TRAILER)]


_AVIF_SPEED: Final = 7
"""The slowest at which the encoder keeps no later frames in memory: below it looks 35 frames ahead."""


def _write_avif(frames: Frames, plays: int, quality: int) -> bytes:
    """An AVIF sequence, whose frames the encoder gets one by one."""
    mode = "RGBA" if any(picture.alpha is not None for picture, _ in frames()) else "RGB"
    delays: list[int] = []
    buffer = io.BytesIO()
    _Sequence(frames(), mode, delays).save(
        buffer, "AVIF", save_all=True, quality=quality, subsampling="4:4:4", speed=_AVIF_SPEED, duration=delays,
        icc_profile=srgb_profile(),
    )  # fmt: skip
    return set_plays(buffer.getvalue(), plays)


class _Sequence(Image.Image):
    """Frames as an image that Pillow's encoder reads one by one."""

    format = "AVIF"
    is_animated = True

    def __init__(self, frames: Iterable[Frame], mode: str, delays: list[int]) -> None:
        """All frames are converted to `mode`. `delays` is extended by the delay of each frame that is read."""
        super().__init__()
        self._frames: Iterator[Frame] = iter(frames)
        self._all_mode, self._delays = mode, delays
        self._position = -1
        self._show_next()

    def seek(self, frame: int) -> None:
        """Read the next frame. Raises EOFError after the last one. Pillow seeks back only after it has read all frames."""
        if frame == self._position + 1:
            self._show_next()

    def tell(self) -> int:
        return max(0, self._position)

    def _show_next(self) -> None:
        try:
            picture, delay = next(self._frames)
        except StopIteration:
            raise EOFError from None
        self._delays.append(delay)
        self._position += 1
        image = to_image(picture).convert(self._all_mode)
        self.im, self._mode, self._size = image.im, image.mode, image.size
