"""Removing JPEG artifacts, banding and noise without a network."""

import io
from functools import partial
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.domain.cards import Action
from panelworks.domain.plan import Step
from panelworks.pictures.picture import Picture, Pixels, from_image, map_bands, to_image
from panelworks.quality.content import estimate_jpeg_quality
from panelworks.quality.edges import measure_block_grain
from panelworks.steps.base import Work

_BLOCK_PIXELS: Final = 8
_BLOCK_BAND_ROWS: Final = 1024
MAX_JPEG_WIDTH: Final = 65_000
"""Maximum width of a JPEG in pixels."""
_GRID_SHIFTS: Final = tuple((row, column) for row in range(0, 8, 2) for column in range(row // 2 % 2, 8, 2))
"""Sixteen of the 64 possible grid positions, evenly distributed."""


def smooth_blocks(picture: Picture, quality: int) -> Picture:
    """Remove block artifacts: compress the page again with sixteen positions of the grid and average the results.

    Nosratinia, Enhancement of JPEG-compressed images by re-application of JPEG, J. VLSI Signal Processing 27, 2001.

    Args:
        picture: The page. Alpha is unchanged.
        quality: Quality of the JPEG that the page was, 1..95.
    """

    def smooth_band(band: Pixels) -> Pixels:
        height, width = band.shape[:2]
        padded = np.pad(
            band, ((_BLOCK_PIXELS, _BLOCK_PIXELS), (_BLOCK_PIXELS, _BLOCK_PIXELS), (0, 0)), mode="edge"
        )
        total = np.zeros(band.shape, dtype=np.uint16)
        for row, column in _GRID_SHIFTS:
            again = _recompress(np.ascontiguousarray(padded[row:, column:]), quality)
            top, left = _BLOCK_PIXELS - row, _BLOCK_PIXELS - column
            total += again[top : top + height, left : left + width]
        return ((total + len(_GRID_SHIFTS) // 2) // len(_GRID_SHIFTS)).astype(np.uint8)

    return Picture(map_bands(picture.pixels, _BLOCK_BAND_ROWS, 2 * _BLOCK_PIXELS, smooth_band), picture.alpha)


def _recompress(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    to_image(Picture(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    with Image.open(buffer) as image:
        return from_image(image.convert("L" if pixels.shape[2] == 1 else "RGB")).pixels


_NEIGHBOUR_DISTANCES: Final = (24, 12, 6)
"""Distances of the compared neighbours in pixels, largest first."""
_HALO_ROWS: Final = 48
"""Rows that influence a result: the sum of the distances, rounded up to a multiple of the dither's eight."""
_BANDING_BAND_ROWS: Final = 512
_MAX_SLOPE_STEP: Final = 6.0
"""Maximum difference to a neighbour on the same slope, in levels."""


def smooth_bands(picture: Picture, max_step: float = _MAX_SLOPE_STEP) -> Picture:
    """Smooth stairs in gentle slopes; edges, texture and flat areas stay identical.

    If a pixel differs little from its four neighbours at some distance, but not from all by zero, it is replaced by
    their mean. An ordered dither distributes the fractions of a level, because rounding would recreate the stairs.

    Args:
        picture: The page. Alpha is unchanged.
        max_step: Largest difference on the same slope, in levels.
    """
    smooth = partial(_smooth_slopes, max_step=max_step)
    return Picture(map_bands(picture.pixels, _BANDING_BAND_ROWS, _HALO_ROWS, smooth), picture.alpha)


def _smooth_slopes(source: Pixels, max_step: float) -> Pixels:
    pixels = source.astype(np.float32)
    changed = np.zeros(pixels.shape[:2], dtype=bool)
    for reach in _NEIGHBOUR_DISTANCES:
        around = [_shift(pixels, *move) for move in ((0, reach), (0, -reach), (reach, 0), (-reach, 0))]
        near = [_shift(pixels, *move) for move in ((0, 1), (0, -1), (1, 0), (-1, 0))]
        far = np.max([np.abs(one - pixels).max(axis=2) for one in around], axis=0)
        close = np.max([np.abs(one - pixels).max(axis=2) for one in near], axis=0)
        slope = (far > 0) & (far <= max_step) & (close <= max_step)
        mean = (sum(around) + 4 * pixels) / np.float32(8)
        pixels = np.where(slope[:, :, None], mean, pixels)
        changed |= slope
    dithered = np.floor(pixels + _dither_thresholds(pixels.shape[0], pixels.shape[1])[:, :, None])
    return np.where(changed[:, :, None], np.clip(dithered, 0, 255), source).astype(np.uint8)


def _shift(pixels: npt.NDArray[np.float32], down: int, across: int) -> npt.NDArray[np.float32]:
    """Shift the picture and repeat its edge."""
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + across, 0, width - 1)
    return pixels[rows][:, columns]


def _dither_thresholds(height: int, width: int) -> npt.NDArray[np.float32]:
    """An 8x8 Bayer pattern in (0, 1), repeated over the page."""
    pattern = np.zeros((1, 1))
    for _ in range(3):
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    tile = ((pattern + 0.5) / pattern.size).astype(np.float32)
    return np.tile(tile, (-(-height // 8), -(-width // 8)))[:height, :width]


_NOISE_PATCH_PIXELS: Final = 5
_NOISE_SEARCH_PIXELS: Final = 13
_NOISE_BAND_ROWS: Final = 512
_MIN_NOISE_LEVELS: Final = 1.0


def smooth_noise(picture: Picture) -> Picture:
    """Remove fine noise: each pixel becomes the mean of those near it that have similar surroundings.

    Buades, Coll and Morel, A non-local algorithm for image denoising (CVPR 2005). The strength follows from the noise of the
    picture.
    """
    grain, _, usable = measure_block_grain(_whole_blocks(picture.luma()))
    level = float(np.median(grain[usable])) if usable.any() else 0.0
    if level < _MIN_NOISE_LEVELS:
        return picture

    def smooth_band(band: Pixels) -> Pixels:
        smooth = cv2.fastNlMeansDenoising(
            np.ascontiguousarray(band), None, level, _NOISE_PATCH_PIXELS, _NOISE_SEARCH_PIXELS
        )
        return np.asarray(smooth, dtype=np.uint8).reshape(band.shape)

    return Picture(
        map_bands(picture.pixels, _NOISE_BAND_ROWS, _NOISE_SEARCH_PIXELS + _NOISE_PATCH_PIXELS, smooth_band),
        picture.alpha,
    )


def _whole_blocks(luma: Pixels) -> Pixels:
    missing = [-side % _BLOCK_PIXELS for side in luma.shape]
    return np.pad(luma, ((0, missing[0]), (0, missing[1])), mode="edge")


_DEFAULT_JPEG_QUALITY: Final = 60
"""Used if the grid cannot be found, for example after cropping or rescaling."""
_FIX_ACTIONS: Final[frozenset[Action]] = frozenset({"fix_artifacts"})


class DeblockingProvider:
    """Smooths blocks and bands without a network."""

    name: Final = "deblocking"
    methods: Final = {"deblock": _FIX_ACTIONS, "deband": _FIX_ACTIONS, "deblock-deband": _FIX_ACTIONS}
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        if "deblock" in step.model and picture.width <= MAX_JPEG_WIDTH:
            quality = step.config.get("jpeg_quality") or work.measure(
                "jpeg_quality", partial(estimate_jpeg_quality, picture)
            )
            picture = smooth_blocks(picture, quality or _DEFAULT_JPEG_QUALITY)
            work.note(f"JPEG blocks smoothed (quality {quality or 'unknown'})")
        if "deband" in step.model:
            picture = smooth_bands(picture)
        return picture
