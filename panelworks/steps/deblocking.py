"""JPEG artifacts and banding, without a network."""

import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.domain.cards import Action
from panelworks.domain.plan import Step
from panelworks.pictures.picture import Picture, Pixels, by_bands, from_image, to_image
from panelworks.quality.compression import estimated_quality
from panelworks.steps.base import Work

_BLOCK: Final = 8
_BLOCKS_BAND_ROWS: Final = 1024
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

    return Picture(by_bands(picture.pixels, _BLOCKS_BAND_ROWS, 2 * _BLOCK, smoothed), picture.alpha)


def _recompressed(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    to_image(Picture(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    with Image.open(buffer) as image:
        return from_image(image.convert("L" if pixels.shape[2] == 1 else "RGB")).pixels


_REACHES: Final = (24, 12, 6)
"""Distances, in pixels, at which neighbours are looked at, the far ones first."""
_HALO: Final = 48
"""Rows that a result may depend on: the sum of the distances, up to a multiple of the dither's eight."""
_BANDING_BAND_ROWS: Final = 512
_STEP: Final = 6.0
"""Largest difference, in levels, to a neighbour that still belongs to the slope."""


def smooth_bands(picture: Picture) -> Picture:
    """The page with gentle stairs smoothed; drawn edges, texture and flat areas stay to the last bit.

    A pixel whose four neighbours at some distance all differ by little, and not all by nothing, takes their
    mean; what is left of a level is spread by an ordered dither, or the stairs would come back when rounded.
    """
    return Picture(by_bands(picture.pixels, _BANDING_BAND_ROWS, _HALO, _smoothed), picture.alpha)


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


_UNKNOWN_QUALITY: Final = 60
"""Taken where the grid cannot be found, as after cropping or rescaling."""
_FIX: Final[frozenset[Action]] = frozenset({"fix_artifacts"})


class DeblockingProvider:
    """Smooths blocks and bands by plain arithmetic."""

    name: Final = "deblocking"
    methods: Final = {"deblock": _FIX, "deband": _FIX, "deblock-deband": _FIX}
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        if "deblock" in step.model and picture.width <= WIDEST:
            quality = estimated_quality(picture)
            picture = smooth_blocks(picture, quality or _UNKNOWN_QUALITY)
            work.note(f"JPEG blocks smoothed (quality {quality or 'unknown'})")
        if "deband" in step.model:
            picture = smooth_bands(picture)
        return picture
