"""`Picture`, upright sRGB pixels in memory, and the cache of decoded pictures."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
_LUMA_ROWS: Final = 64
"""Rows that are converted at once: they fit in the cache of a core."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture."""

    pixels: Pixels
    """HxWx3 sRGB colour or HxWx1 gray, 0..255, not premultiplied by alpha."""
    alpha: Pixels | None = None
    """HxW opacity, 0..255; None if every pixel is opaque."""
    damage: str | None = None
    """Why the pixels may be damaged; None if nothing indicates it, and for derived pictures."""

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
        luma = np.empty(self.pixels.shape[:2], dtype=np.uint8)
        for top in range(0, self.height, _LUMA_ROWS):
            rows = slice(top, top + _LUMA_ROWS)
            red, green, blue = (plane.astype(np.uint16) for plane in cv2.split(self.pixels[rows]))
            luma[rows] = (77 * red + 150 * green + 29 * blue + 128) >> 8
        return luma

    def rgb(self) -> Pixels:
        """HxWx3; gray is repeated in each channel."""
        return self.pixels.repeat(3, axis=2) if self.is_gray else self.pixels

    def with_rgb(self, pixels: Pixels) -> "Picture":
        """Replace the pixels by HxWx3 pixels. Gray stays gray; alpha stays if the size is the same."""
        if self.is_gray:
            pixels = np.rint(pixels.mean(axis=2, keepdims=True)).astype(np.uint8)
        return Picture(pixels, self.alpha if pixels.shape[:2] == self.pixels.shape[:2] else None)

    def region(self, left: int, top: int, width: int, height: int) -> "Picture":
        """A view of a rectangle that shares memory with this picture."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        alpha = None if self.alpha is None else self.alpha[rows, columns]
        return Picture(self.pixels[rows, columns], alpha)


def to_image(picture: Picture) -> Image.Image:
    """Convert to a Pillow image of mode L, LA, RGB or RGBA."""
    image = Image.fromarray(picture.pixels[:, :, 0] if picture.is_gray else picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def from_image(image: Image.Image) -> Picture:
    """Convert from a Pillow image of mode L, LA, RGB or RGBA."""
    planes = np.asarray(image).reshape(image.height, image.width, -1)
    if image.mode in ("L", "RGB"):
        return Picture(planes)
    return Picture(np.ascontiguousarray(planes[:, :, :-1]), np.ascontiguousarray(planes[:, :, -1]))


def map_bands(pixels: Pixels, height: int, halo: int, work: Callable[[Pixels], Pixels]) -> Pixels:
    """Apply `work` to a page, HxWxC to HxWxC, in bands of rows.

    Args:
        pixels: The page.
        height: Rows of a band. If the page has a periodic pattern, a multiple of its period.
        halo: Context rows above and below a band. The same applies.
        work: Function of a band that keeps its shape.
    """
    result = np.empty_like(pixels)
    for top in range(0, pixels.shape[0], height):
        start, end = max(0, top - halo), min(pixels.shape[0], top + height + halo)
        done = work(pixels[start:end])
        result[top : top + height] = done[top - start : top - start + height]
    return result


_PICTURES_PER_PAGE: Final = 4


class PictureCache:
    """Cache of decoded pictures by SHA-256 of their file, limited in bytes. The least recently used go first.
    Thread-safe."""

    def __init__(self, capacity: int) -> None:
        """`capacity` is in bytes. Larger pictures are not cached."""
        self._capacity = capacity
        self._held = 0
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def fits_pages(self, picture: Picture, pages: int) -> bool:
        """Whether the pictures of `pages` simultaneous pages of this size fit in the cache."""
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
        """Remove a picture from the cache."""
        with self._lock:
            picture = self._pictures.pop(sha256, None)
            if picture is not None:
                self._held -= picture.nbytes
