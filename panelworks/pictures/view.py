"""Views: the parts of a page that are measured, and pairs of a page and its enhancement at one size."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import Picture, Pixels

Floats = npt.NDArray[np.float32]
MAX_WHOLE_PIXELS: Final = 2_000_000
"""Pictures up to this size are measured whole, larger ones in a grid of windows."""
WINDOW_PIXELS: Final = 480
"""Side of a window, a multiple of 8: the grid of JPEG blocks has the same phase in each."""
_WINDOWS_PER_SIDE: Final = 3
"""Windows per side of the grid."""


@dataclass(frozen=True)
class View:
    """A part of a page, flattened on white."""

    luma: Floats
    """HxW brightness, 0..255."""
    colour: Pixels | None
    """HxWx3, sRGB; None on a gray page."""


def sample_views(picture: Picture) -> Iterator[View]:
    """Yield the whole of a small picture, or nine evenly distributed windows of a larger one."""
    if picture.width * picture.height <= MAX_WHOLE_PIXELS:
        yield _make_view(picture)
        return
    for top in _window_starts(picture.height):
        for left in _window_starts(picture.width):
            yield _make_view(
                picture.region(
                    left, top, min(WINDOW_PIXELS, picture.width), min(WINDOW_PIXELS, picture.height)
                )
            )


def _make_view(picture: Picture) -> View:
    paper = flatten_on_white(picture)
    return View(paper.luma().astype(np.float32), None if paper.is_gray else paper.pixels)


def _window_starts(side: int) -> list[int]:
    room = side - WINDOW_PIXELS
    if room <= 0:
        return [0]
    count = min(_WINDOWS_PER_SIDE, -(-side // WINDOW_PIXELS))
    if count == _WINDOWS_PER_SIDE < side // WINDOW_PIXELS // 4:
        count = min(12, side // WINDOW_PIXELS // 4)  # a strip is measured along its whole length
    return sorted({round(room * index / max(1, count - 1)) // 8 * 8 for index in range(count)})


class Pair:
    """Source and result flattened on white. They are compared at the size of the smaller one."""

    def __init__(self, source: Picture, result: Picture) -> None:
        self.source, self.result = flatten_on_white(source), flatten_on_white(result)
        self.width = min(source.width, result.width)
        self.height = min(source.height, result.height)
        self.scale = (source.width / self.width, source.height / self.height)
        """Source pixels for each compared pixel, horizontally and vertically."""

    @cached_property
    def before(self) -> Pixels:
        """The source at the common size, HxWxC."""
        return self._shrink(self.source)

    @cached_property
    def after(self) -> Pixels:
        """The result at the common size, HxWxC."""
        return self._shrink(self.result)

    @cached_property
    def luma_before(self) -> Floats:
        """HxW, 0..255."""
        return Picture(self.before).luma().astype(np.float32)

    @cached_property
    def luma_after(self) -> Floats:
        """HxW, 0..255."""
        return Picture(self.after).luma().astype(np.float32)

    @cached_property
    def result_luma(self) -> Pixels:
        """Brightness of the result at its own size."""
        return self.result.luma()

    @cached_property
    def steepness(self) -> Floats:
        """Length of the source's gradient, in levels a pixel."""
        return gradient(self.luma_before)

    def _shrink(self, picture: Picture) -> Pixels:
        if picture.size == (self.width, self.height):
            return picture.pixels
        small = cv2.resize(picture.pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, dtype=np.uint8).reshape(self.height, self.width, -1)


def gradient(luma: Floats) -> Floats:
    """Length of the gradient by central differences, in levels a pixel."""
    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    return np.asarray(cv2.magnitude(across, down), dtype=np.float32)


def cell_means(plane: npt.NDArray[np.generic], side: int, shape: tuple[int, ...] | None = None) -> Floats:
    """Means over cells that divide a plane evenly, rows x columns [x channels].

    There are `shape` (rows, columns, ...) cells. By default each has about `side` pixels.
    """
    height, width = plane.shape[:2]
    size = (max(1, round(width / side)), max(1, round(height / side)))
    if shape is not None:
        size = (shape[1], shape[0])
    values = plane.astype(np.float32, copy=False)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
