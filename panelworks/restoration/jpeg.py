"""Smoothing JPEG blocks away without a network."""

import io
from typing import Final

import numpy as np
from PIL import Image

from panelworks.pictures.picture import Picture, Pixels, from_image, to_image

_BLOCK: Final = 8
_SHIFTS: Final = tuple((row, column) for row in range(0, 8, 2) for column in range(row // 2 % 2, 8, 2))
"""Sixteen of the 64 places that the grid may have, spread evenly."""


def smooth_blocks(picture: Picture, quality: int) -> Picture:
    """The page without its blocks: compressed once more at sixteen places of the grid, and averaged.

    Nosratinia, Enhancement of JPEG-compressed images by re-application of JPEG, J. VLSI Signal Processing 27, 2001.

    Args:
        picture: The page; alpha stays as it is.
        quality: That of the JPEG it was, 1..95.
    """
    image = to_image(Picture(picture.pixels))
    width, height = image.size
    padded = np.pad(picture.pixels, ((_BLOCK, _BLOCK), (_BLOCK, _BLOCK), (0, 0)), mode="edge")
    total = np.zeros(picture.pixels.shape, dtype=np.uint16)
    for row, column in _SHIFTS:
        moved = np.ascontiguousarray(padded[row:, column:])
        again = _recompressed(moved, quality)
        top, left = _BLOCK - row, _BLOCK - column
        total += again[top : top + height, left : left + width]
    count = len(_SHIFTS)
    return Picture(((total + count // 2) // count).astype(np.uint8), picture.alpha)


def _recompressed(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    to_image(Picture(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    with Image.open(buffer) as image:
        return from_image(image.convert("L" if pixels.shape[2] == 1 else "RGB")).pixels
