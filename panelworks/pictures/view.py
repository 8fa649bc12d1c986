"""Views: the parts of a page that are measured, and pairs of a page and its enhancement at one size."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.resample import resize_part

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


def sample_views(picture: Picture, size: tuple[int, int] | None = None) -> Iterator[View]:
    """Yield the views of a picture as it looks at `size` (width, height), by default its own.

    A small picture is viewed whole, a larger one in nine evenly distributed windows.
    """
    width, height = size or picture.size
    if width * height <= MAX_WHOLE_PIXELS:
        yield _make_view(picture, (width, height), (0, 0, width, height))
        return
    for top in _window_starts(height):
        for left in _window_starts(width):
            window = (left, top, min(WINDOW_PIXELS, width), min(WINDOW_PIXELS, height))
            yield _make_view(picture, (width, height), window)


def _make_view(picture: Picture, size: tuple[int, int], window: tuple[int, int, int, int]) -> View:
    paper = flatten_on_white(resize_part(picture, size, window))
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
    def bytes_before(self) -> Pixels:
        """Brightness of the source at the common size, HxW."""
        return Picture(self.before).luma()

    @cached_property
    def bytes_after(self) -> Pixels:
        """Brightness of the result at the common size, HxW."""
        return Picture(self.after).luma()

    @cached_property
    def luma_before(self) -> Floats:
        """`bytes_before` as HxW floats, 0..255."""
        return self.bytes_before.astype(np.float32)

    @cached_property
    def luma_after(self) -> Floats:
        """`bytes_after` as HxW floats, 0..255."""
        return self.bytes_after.astype(np.float32)

    @cached_property
    def source_luma(self) -> Pixels:
        """Brightness of the source at its own size."""
        return self.bytes_before if self.source.size == (self.width, self.height) else self.source.luma()

    @cached_property
    def result_luma(self) -> Pixels:
        """Brightness of the result at its own size."""
        return self.bytes_after if self.result.size == (self.width, self.height) else self.result.luma()

    @cached_property
    def steepness(self) -> Floats:
        """Length of the source's gradient, in levels a pixel."""
        return gradient(self.luma_before)

    def _shrink(self, picture: Picture) -> Pixels:
        return shrink(picture.pixels, (self.width, self.height))


def shrink(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Reduce pixels, HxWxC, to `size` (width, height) by averaging areas."""
    if size == pixels.shape[1::-1]:
        return pixels
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8).reshape(size[1], size[0], -1)


_MIN_LIGHTEST_SHARE: Final = 0.02
_MIN_PAPER_LEVEL: Final = 160
"""Darkest paper. If the lightest tone of a page is darker, it shows no paper."""


def find_paper_level(histogram: npt.NDArray[np.int64]) -> int | None:
    """The level of the paper of a page whose brightness has this histogram of 256 levels: the lightest tone that covers enough
    of the page; None if that is too dark for paper."""
    lighter = np.cumsum(histogram[::-1])[::-1]
    lightest = int(np.flatnonzero(lighter >= _MIN_LIGHTEST_SHARE * lighter[0])[-1])
    return lightest if lightest >= _MIN_PAPER_LEVEL else None


def gradient(luma: Floats) -> Floats:
    """Length of the gradient by central differences, in levels a pixel."""
    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    return np.asarray(cv2.magnitude(across, down), dtype=np.float32)


def cell_means(plane: npt.NDArray[np.generic], side: int, shape: tuple[int, ...] | None = None) -> Floats:
    """Means over cells that divide a plane into nearly equal parts, rows x columns [x channels].

    There are `shape` (rows, columns, ...) cells. By default each has about `side` pixels.
    """
    counts = _cell_counts(plane, side) if shape is None else shape[:2]
    tops, lefts = cell_borders(plane.shape[0], counts[0]), cell_borders(plane.shape[1], counts[1])
    values = plane.view(np.uint8) if plane.dtype == np.bool_ else plane
    means = np.empty((*counts, *plane.shape[2:]), dtype=np.float32)
    widths = np.diff(lefts).reshape(-1, *(1 for _ in plane.shape[2:]))
    for row, (top, bottom) in enumerate(pairwise(tops)):
        sums = values[top:bottom].sum(axis=0, dtype=np.float32)
        means[row] = np.add.reduceat(sums, lefts[:-1], axis=0) / ((bottom - top) * widths)
    return means


def cell_deviations(
    luma: Pixels | Floats, side: int, shape: tuple[int, ...] | None = None
) -> npt.NDArray[np.float32]:
    """Standard deviations in the cells of `cell_means`, in levels. Exact for whole levels, in cells up to 512 rows."""
    counts = _cell_counts(luma, side) if shape is None else shape[:2]
    tops, lefts = cell_borders(luma.shape[0], counts[0]), cell_borders(luma.shape[1], counts[1])
    deviations = np.empty(counts, dtype=np.float32)
    for row, (top, bottom) in enumerate(pairwise(tops)):
        band = luma[top:bottom].astype(np.float32)
        band -= 128  # smaller squares, whose sums are exact
        pixels = (bottom - top) * np.diff(lefts)
        sums = band.sum(axis=0).astype(np.float64), np.einsum("ij,ij->j", band, band).astype(np.float64)
        mean, squares = (np.add.reduceat(one, lefts[:-1]) / pixels for one in sums)
        deviations[row] = np.sqrt(np.maximum(squares - mean * mean, 0))
    return deviations


def _cell_counts(plane: npt.NDArray[np.generic], side: int) -> tuple[int, int]:
    """Rows and columns of cells of about `side` pixels."""
    return max(1, round(plane.shape[0] / side)), max(1, round(plane.shape[1] / side))


def cell_borders(length: int, count: int) -> npt.NDArray[np.intp]:
    """Borders of `count` nearly equal cells from 0 to `length`."""
    return np.rint(np.linspace(0, length, count + 1)).astype(np.intp)
