"""Smoothing JPEG blocks away without a network."""

import io
from typing import Final

import numpy as np
from PIL import Image

from panelworks.pictures.bands import by_bands
from panelworks.pictures.picture import Picture, Pixels, from_image, to_image

_BLOCK: Final = 8
_BAND: Final = 1024
WIDEST: Final = 65_000
"""Pixels beyond which JPEG cannot hold a row."""
_SHIFTS: Final = tuple((row, column) for row in range(0, 8, 2) for column in range(row // 2 % 2, 8, 2))
"""Sixteen of the 64 places that the grid may have, spread evenly."""


def smooth_blocks(picture: Picture, quality: int) -> Picture:
    """The page without its blocks: compressed once more at sixteen places of the grid, and averaged.

    Nosratinia, Enhancement of JPEG-compressed images by re-application of JPEG, J. VLSI Signal Processing 27, 2001.

    Args:
        picture: The page; alpha stays as it is.
        quality: That of the JPEG it was, 1..95.
    """

    def smoothed(band: Pixels) -> Pixels:
        height, width = band.shape[:2]
        padded = np.pad(band, ((_BLOCK, _BLOCK), (_BLOCK, _BLOCK), (0, 0)), mode="edge")
        total = np.zeros(band.shape, dtype=np.uint16)
        for row, column in _SHIFTS:
            again = _recompressed(np.ascontiguousarray(padded[row:, column:]), quality)
            top, left = _BLOCK - row, _BLOCK - column
            total += again[top : top + height, left : left + width]
        return ((total + len(_SHIFTS) // 2) // len(_SHIFTS)).astype(np.uint8)

    return Picture(by_bands(picture.pixels, _BAND, 2 * _BLOCK, smoothed), picture.alpha)


def _recompressed(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    to_image(Picture(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    with Image.open(buffer) as image:
        return from_image(image.convert("L" if pixels.shape[2] == 1 else "RGB")).pixels
