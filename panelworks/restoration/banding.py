"""Banding: stairs of a few levels, where there was a slope, become a slope again."""

from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.pictures.bands import by_bands
from panelworks.pictures.picture import Picture, Pixels

_REACHES: Final = (24, 12, 6)
"""Distances, in pixels, at which neighbours are looked at, the far ones first."""
_HALO: Final = 48
"""Rows that a result may depend on: the sum of the distances, up to a multiple of the dither's eight."""
_BAND: Final = 512
_STEP: Final = 6.0
"""Largest difference, in levels, to a neighbour that still belongs to the slope."""


def smooth_bands(picture: Picture) -> Picture:
    """The page with gentle stairs smoothed; drawn edges, texture and flat areas stay to the last bit.

    A pixel whose four neighbours at some distance all differ by little, and not all by nothing, takes their
    mean; what is left of a level is spread by an ordered dither, or the stairs would come back when rounded.
    """
    return Picture(by_bands(picture.pixels, _BAND, _HALO, _smoothed), picture.alpha)


def _smoothed(source: Pixels) -> Pixels:
    pixels = source.astype(np.float32)
    changed = np.zeros(pixels.shape[:2], dtype=bool)
    for reach in _REACHES:
        around = [_shifted(pixels, *move) for move in ((0, reach), (0, -reach), (reach, 0), (-reach, 0))]
        near = [_shifted(pixels, *move) for move in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        far = np.max([np.abs(one - pixels).max(axis=2) for one in around], axis=0)
        close = np.max([np.abs(one - pixels).max(axis=2) for one in near], axis=0)
        slope = (far > 0) & (far <= _STEP) & (close <= _STEP)
        mean = (sum(around) + 4 * pixels) / np.float32(8)
        pixels = np.where(slope[:, :, None], mean, pixels)
        changed |= slope
    dithered = np.floor(pixels + _threshold(pixels.shape[0], pixels.shape[1])[:, :, None])
    return np.where(changed[:, :, None], np.clip(dithered, 0, 255), source).astype(np.uint8)


def _shifted(pixels: npt.NDArray[np.float32], down: int, across: int) -> npt.NDArray[np.float32]:
    """The picture moved, its edge repeated."""
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + across, 0, width - 1)
    return pixels[rows][:, columns]


def _threshold(height: int, width: int) -> npt.NDArray[np.float32]:
    """An 8x8 Bayer pattern in (0, 1), repeated over the page."""
    pattern = np.zeros((1, 1))
    for _ in range(3):
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    tile = ((pattern + 0.5) / pattern.size).astype(np.float32)
    return np.tile(tile, (-(-height // 8), -(-width // 8)))[:height, :width]
