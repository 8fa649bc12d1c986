"""`Picture`: upright sRGB pixels in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture."""

    pixels: Pixels
    """HxWx3 sRGB colour or HxWx1 gray, 0..255, not premultiplied by alpha."""
    alpha: Pixels | None = None
    """HxW opacity, 0..255; None when every pixel is opaque."""
    damage: str | None = None
    """Why the decoder doubts these pixels; None where it does not, and for what was made from other pictures."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3):
            raise ValueError(f"pixels must be HxWx1 or HxWx3, not {self.pixels.shape}")
        if self.alpha is not None and self.alpha.shape != self.pixels.shape[:2]:
            raise ValueError(f"alpha {self.alpha.shape} does not match {self.pixels.shape}")

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return (self.width, self.height)

    @property
    def is_gray(self) -> bool:
        return int(self.pixels.shape[2]) == 1

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self.pixels.nbytes + (0 if self.alpha is None else self.alpha.nbytes)

    def luma(self) -> Pixels:
        """HxW brightness, 0..255, by the Rec. 601 weights that JPEG uses, in 8-bit fixed point."""
        if self.is_gray:
            return self.pixels[:, :, 0]
        red, green, blue = (self.pixels[:, :, c].astype(np.uint16) for c in range(3))
        return ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)

    def rgb(self) -> Pixels:
        """HxWx3, gray repeated in each channel."""
        return self.pixels.repeat(3, axis=2) if self.is_gray else self.pixels

    def with_rgb(self, pixels: Pixels) -> "Picture":
        """HxWx3 pixels in place of those here; gray stays gray, alpha stays where the size is the same."""
        if self.is_gray:
            pixels = np.rint(pixels.mean(axis=2, keepdims=True)).astype(np.uint8)
        return Picture(pixels, self.alpha if pixels.shape[:2] == self.pixels.shape[:2] else None)

    def region(self, left: int, top: int, width: int, height: int) -> "Picture":
        """A view of a rectangle; it shares memory with this picture."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        alpha = None if self.alpha is None else self.alpha[rows, columns]
        return Picture(self.pixels[rows, columns], alpha)


def to_image(picture: Picture) -> Image.Image:
    """The same as a Pillow image of mode L, LA, RGB or RGBA."""
    image = Image.fromarray(picture.pixels[:, :, 0] if picture.is_gray else picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def from_image(image: Image.Image) -> Picture:
    """The same as a picture; the image has mode L, LA, RGB or RGBA."""
    planes = np.asarray(image).reshape(image.height, image.width, -1)
    if image.mode in ("L", "RGB"):
        return Picture(planes)
    return Picture(np.ascontiguousarray(planes[:, :, :-1]), np.ascontiguousarray(planes[:, :, -1]))


def map_bands(pixels: Pixels, height: int, halo: int, work: Callable[[Pixels], Pixels]) -> Pixels:
    """What `work` makes of a page, HxWxC to HxWxC, given to it in bands of rows.

    Args:
        pixels: The page.
        height: Rows of a band; where a pattern of the page matters, a multiple of its period.
        halo: Rows that a band must know above and below; likewise.
        work: Keeps the shape of what it is given.
    """
    result = np.empty_like(pixels)
    for top in range(0, pixels.shape[0], height):
        start, end = max(0, top - halo), min(pixels.shape[0], top + height + halo)
        done = work(pixels[start:end])
        result[top : top + height] = done[top - start : top - start + height]
    return result


_PICTURES_PER_PAGE: Final = 4


class PictureCache:
    """Least-recently-used pictures by SHA-256 of their file, bounded by bytes. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in bytes; a picture larger than that is not kept."""
        self._capacity = capacity
        self._held = 0
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def holds_many(self, picture: Picture, pages: int) -> bool:
        """Would so many `pages` in work at the same time, with a few pictures of this size each, all stay here?"""
        return picture.nbytes * pages * _PICTURES_PER_PAGE <= self._capacity

    def get(self, sha256: str) -> Picture | None:
        with self._lock:
            picture = self._pictures.get(sha256)
            if picture is not None:
                self._pictures.move_to_end(sha256)
            return picture

    def put(self, sha256: str, picture: Picture) -> None:
        if picture.nbytes > self._capacity:
            return
        with self._lock:
            if sha256 in self._pictures:
                return
            self._pictures[sha256] = picture
            self._held += picture.nbytes
            while self._held > self._capacity:
                _, oldest = self._pictures.popitem(last=False)
                self._held -= oldest.nbytes

    def discard(self, sha256: str) -> None:
        """Free a picture, if it is held."""
        with self._lock:
            picture = self._pictures.pop(sha256, None)
            if picture is not None:
                self._held -= picture.nbytes
