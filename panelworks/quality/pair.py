"""A page and its enhancement, brought to one size so that they can be compared."""

from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import Picture, Pixels
from panelworks.quality.view import Floats


class Pair:
    """Source and result on white paper. What both are compared at is the size of the smaller of the two."""

    def __init__(self, source: Picture, result: Picture) -> None:
        self.source, self.result = on_paper(source), on_paper(result)
        self.width = min(source.width, result.width)
        self.height = min(source.height, result.height)
        self.scale = (source.width / self.width, source.height / self.height)
        """Pixels of the source for one of the comparison, across and down."""

    @cached_property
    def was(self) -> Pixels:
        """The source at the common size, HxWxC."""
        return self._shrunk(self.source)

    @cached_property
    def now(self) -> Pixels:
        """The result at the common size, HxWxC."""
        return self._shrunk(self.result)

    @cached_property
    def luma_was(self) -> Floats:
        """HxW, 0..255."""
        return Picture(self.was).luma().astype(np.float32)

    @cached_property
    def luma_now(self) -> Floats:
        """HxW, 0..255."""
        return Picture(self.now).luma().astype(np.float32)

    @cached_property
    def result_luma(self) -> Pixels:
        """Brightness of the result as large as it is."""
        return self.result.luma()

    @cached_property
    def steepness(self) -> Floats:
        """Length of the source's gradient, in levels a pixel."""
        return gradient(self.luma_was)

    def _shrunk(self, picture: Picture) -> Pixels:
        if picture.size == (self.width, self.height):
            return picture.pixels
        small = cv2.resize(picture.pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, dtype=np.uint8).reshape(self.height, self.width, -1)


def gradient(luma: Floats) -> Floats:
    """Length of the gradient by central differences, in levels a pixel."""
    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    return np.asarray(cv2.magnitude(across, down), dtype=np.float32)


def cells(plane: npt.NDArray[np.generic], side: int, shape: tuple[int, ...] | None = None) -> Floats:
    """Means over cells that divide a plane evenly, rows x columns [x channels].

    There are as many as `shape` (rows, columns, ...) says, else so many that each has about `side` pixels.
    """
    height, width = plane.shape[:2]
    size = (max(1, round(width / side)), max(1, round(height / side)))
    if shape is not None:
        size = (shape[1], shape[0])
    values = plane.astype(np.float32, copy=False)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
