"""Small animations for tests, in all formats that have them."""

import io
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.pictures import Picture
from panelworks.pictures.picture import to_image
from tests.pages import drawn, file_of

FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
DELAYS = (40, 70, 230)


def blink(width: int = 160, height: int = 200, count: int = 2) -> list[Picture]:
    """Frames of a drawn page in which only a small rectangle changes."""
    page = drawn(width, height)
    frames = []
    for number in range(count):
        pixels = page.pixels.copy()
        pixels[height // 3 : height // 3 + 20, width // 3 : width // 3 + 30] = (
            255 * (number % 2),
            30 * number % 256,
            120,
        )
        frames.append(Picture(pixels))
    return frames


def animated_file(
    frames: Sequence[Picture], format: str = "WEBP", delays: Sequence[int] | int = 100, loop: int = 0
) -> bytes:
    """Frames as Pillow writes them. `loop` is the number in the file, whose meaning depends on the format."""
    images = [to_image(frame) for frame in frames]
    if format == "GIF":
        palette = images[0].quantize(255)
        images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }
    exact = options.get(format, {})
    duration = delays if isinstance(delays, int) else list(delays)
    return file_of(
        images[0], format, save_all=True, append_images=images[1:], duration=duration, loop=loop, **exact
    )


GifFrame = tuple[npt.NDArray[np.uint8], tuple[int, int], int, int]
"""Colour indices, left and top, delay in hundredths of a second, disposal."""
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9))
TRANSPARENT = 3
"""The index of the last colour, which is transparent in frames of `gif_of`."""


def gif_of(canvas: tuple[int, int], frames: Sequence[GifFrame], repeats: int | None = 0) -> bytes:
    """A GIF with exactly these frames; `repeats` None writes no loop count."""
    table = b"".join(bytes(colour) for colour in COLOURS)
    parts = [b"GIF89a", struct.pack("<2H", *canvas), b"\x81\x00\x00", table]
    if repeats is not None:
        parts.append(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", repeats) + b"\x00")
    for indices, place, delay, disposal in frames:
        control = bytes([disposal << 2 | 1]) + struct.pack("<HB", delay, TRANSPARENT)
        size = struct.pack("<2H", indices.shape[1], indices.shape[0])
        parts += [b"!\xf9\x04" + control + b"\x00", b"," + struct.pack("<2H", *place) + size + b"\x00"]
        parts.append(_compressed_indices(indices))
    return b"".join((*parts, b";"))


def _compressed_indices(indices: npt.NDArray[np.uint8]) -> bytes:
    """The compressed pixels of a frame; a frame without pixels has only an end code."""
    if not indices.size:
        return b"\x02\x01\x2c\x00"
    image = Image.fromarray(indices)
    image.putpalette([value for colour in COLOURS for value in colour])
    data = file_of(image, "GIF", optimize=False, interlace=False)
    position = 13 + (3 << ((data[10] & 7) + 1))
    while data[position] == 0x21:
        position += 2
        while data[position]:
            position += 1 + data[position]
        position += 1
    return data[position + 10 : -1]


def filled(width: int, height: int, colour: int) -> npt.NDArray[np.uint8]:
    """Indices of one colour."""
    return np.full((height, width), colour, dtype=np.uint8)


def seen_by_pillow(data: bytes) -> list[npt.NDArray[np.uint8]]:
    """All frames as Pillow composes them, HxWx4."""
    with Image.open(io.BytesIO(data)) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGBA")).copy())
        return frames


def delays_seen_by_pillow(data: bytes) -> list[int]:
    """Milliseconds of each frame."""
    with Image.open(io.BytesIO(data)) as image:
        delays = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            image.load()
            delays.append(round(image.info["duration"]))
        return delays


def rgba(picture: Picture) -> npt.NDArray[np.uint8]:
    """HxWx4."""
    return np.asarray(to_image(picture).convert("RGBA"))


def cut_before_frame(data: bytes, number: int) -> bytes:
    """A file that ends in the middle of its frame `number`, counted from 0."""
    signature = {b"GIF8": b"!\xf9\x04", b"RIFF": b"ANMF", b"\x89PNG": b"fcTL"}[data[:4]]
    places = [index for index in range(len(data)) if data.startswith(signature, index)]
    begins = [*places, len(data)]
    begin, end = next((one, other) for index, (one, other) in enumerate(pairwise(begins)) if index == number)
    return data[: begin + (end - begin) * 3 // 4]
