"""The kind of a page (colour, gray, line art, screentone or photograph) and its estimated JPEG quality.

The rules are simple. The plan selects the steps of a page by them. docs/explanation/quality.md states how often they
are right.
"""

import io
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.domain.quality import DOTS_SHARE, Content, Kind
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.view import find_paper_level
from panelworks.quality.edges import measure_rises
from panelworks.quality.patterns import horizontal_steps, measure_dotted_share

_MIN_COLOUR_SPREAD: Final = 14.0
"""Minimum spread of a pixel's channels, beyond the page's tint, that is visible as colour."""
_MIN_COLOUR_SHARE: Final = 0.01
_INK_RANGE_SHARE: Final = 0.2
"""Share of the range between ink and paper that counts as ink or as paper."""
_MAX_EVEN_RANGE_SHARE: Final = 0.12
"""Maximum share of that range in 3x3 pixels of an even area; the edge of a line has more."""
_MAX_LINE_ART_TONE_SHARE: Final = 0.005
"""Maximum share of pixels of line art in even areas between ink and paper. Real line art, hatched or not, has up to 0.003, a
drawing with tone 0.17 and more."""
_MAX_PHOTOGRAPH_FLAT_SHARE: Final = 0.25
"""Maximum share of pixels of a photograph that equal their neighbours."""
_MAX_PHOTOGRAPH_BRIGHT_SHARE: Final = 0.08
"""Maximum share of bright pixels of a photograph: it has no paper."""
_MAX_PHOTOGRAPH_RISE: Final = 0.62
"""Maximum median share of an edge in its steepest step in a photograph: it has no inked lines."""
_PAPER_RANGE_LEVELS: Final = 20
_SAMPLE_SIDE_PIXELS: Final = 1024
"""Side of the central square whose edges and tones are measured."""


def classify_content(picture: Picture) -> Content:
    """Classify the content of a picture."""
    paper = flatten_on_white(picture)
    luma = paper.luma()
    colour = _measure_colour_share(paper)
    dots = measure_dotted_share(luma.astype(np.float32))
    steps = horizontal_steps(luma) if luma.shape[1] > 1 else np.zeros((1, 1), dtype=np.uint8)
    flat = 1 - np.count_nonzero(steps) / steps.size
    return Content(
        kind=_classify_kind(luma, colour, dots, flat),
        colour=round(colour, 4),
        dots=round(dots, 4),
        flat=round(flat, 4),
        tint=round(_measure_tint(paper), 1),
        paper=round(_measure_paper_share(luma), 4),
    )


def _measure_tint(picture: Picture) -> float:
    """Difference between the strongest and the weakest channel of the median colour, in levels."""
    if picture.is_gray:
        return 0.0
    return float(np.ptp(np.median(picture.pixels[::4, ::4], axis=(0, 1))))


def _measure_paper_share(luma: npt.NDArray[np.uint8]) -> float:
    """Share of pixels that are as light as the paper; 0 without paper."""
    histogram = np.bincount(luma.ravel(), minlength=256)
    paper = find_paper_level(histogram)
    return float(histogram[paper - _PAPER_RANGE_LEVELS :].sum() / luma.size) if paper is not None else 0.0


def _classify_kind(luma: npt.NDArray[np.uint8], colour: float, dots: float, flat: float) -> Kind:
    if colour >= _MIN_COLOUR_SHARE:
        return "photograph" if dots < DOTS_SHARE and _is_photograph(luma, flat) else "colour"
    if dots >= DOTS_SHARE:
        return "screentone"
    return "line_art" if _measure_tone_share(luma) <= _MAX_LINE_ART_TONE_SHARE else "gray"


def _measure_tone_share(luma: npt.NDArray[np.uint8]) -> float:
    """Share of pixels in the middle of a gray page that are in even areas between ink and paper."""
    black, white = (float(level) for level in np.percentile(luma[::2, ::2], (1, 90)))
    margin = max(10.0, _INK_RANGE_SHARE * (white - black))
    middle = _middle_of(luma)
    tone = (middle >= black + margin) & (middle <= white - margin)
    square = np.ones((3, 3), np.uint8)
    even = cv2.subtract(cv2.dilate(middle, square), cv2.erode(middle, square)) < _MAX_EVEN_RANGE_SHARE * (
        white - black
    )
    return float((tone & even).mean())


def _middle_of(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The central square of a page, which is measured in its place."""
    top, left = (max(0, (side - _SAMPLE_SIDE_PIXELS) // 2) for side in luma.shape)
    return np.ascontiguousarray(luma[top : top + _SAMPLE_SIDE_PIXELS, left : left + _SAMPLE_SIDE_PIXELS])


def _is_photograph(luma: npt.NDArray[np.uint8], flat: float) -> bool:
    """Whether the picture has no flat colour, no paper and no inked edges."""
    if flat >= _MAX_PHOTOGRAPH_FLAT_SHARE or float((luma > 215).mean()) >= _MAX_PHOTOGRAPH_BRIGHT_SHARE:
        return False
    return measure_rises(_middle_of(luma))[0]["rise_50"] < _MAX_PHOTOGRAPH_RISE


def _measure_colour_share(picture: Picture) -> float:
    """Share of coloured pixels. The tint of yellowed paper or of a scanner does not count.

    Ink on tinted paper has less of its tint, down to none: it reflects a part of the light, and JPEG mixes the colours of
    neighbours.
    """
    if picture.is_gray:
        return 0.0
    thinned = picture.pixels[:: max(1, picture.height // 800), :: max(1, picture.width // 800)].astype(
        np.int16
    )
    opponents = np.stack([thinned[:, :, 0] - thinned[:, :, 1], thinned[:, :, 1] - thinned[:, :, 2]])
    brightness = thinned.mean(axis=2)
    light = brightness >= np.median(brightness)
    tint = np.median(opponents[:, light], axis=1)[:, None, None]
    share = brightness / max(float(np.median(brightness[light])), 1.0)
    ends = np.stack([tint * share, np.broadcast_to(tint, opponents.shape), np.zeros(opponents.shape)])
    nearest = np.clip(opponents, ends.min(axis=0), ends.max(axis=0))
    return float((np.abs(opponents - nearest).max(axis=0) > _MIN_COLOUR_SPREAD).mean())


Floats = npt.NDArray[np.float32]
_BLOCK_PIXELS: Final = 8
_CANDIDATE_QUALITIES: Final = tuple(range(10, 96, 5))
"""JPEG qualities that are distinguished."""
_MAX_BLOCKS: Final = 4096
_MIN_BLOCKS: Final = 64
_MIN_COEFFICIENT_STEPS: Final = 1.5
"""Minimum mean size of a coefficient in quantisation steps, over the blocks with the largest values."""
_MEAN_DISTANCE_BY_CHANCE: Final = 0.25
"""Mean distance of a random number from the nearest integer."""
_MAX_MISFIT: Final = 0.62
"""Maximum mean distance from the steps of a quality, relative to chance, of a page with that quality."""


def estimate_jpeg_quality(picture: Picture) -> int | None:
    """Estimate the quality (10..95) of the JPEG that a page was; None if it was none, or was cropped.

    Coefficients of 8x8 blocks cluster at multiples of their quantisation steps (Fan and de Queiroz, Identification of
    bitmap compression history, IEEE TIP 12, 2003).
    """
    coefficients = _block_coefficients(picture.luma())
    if coefficients is None:
        return None
    fits = {
        quality: _measure_misfit(coefficients, _quantisation_steps(quality))
        for quality in _CANDIDATE_QUALITIES
    }
    best = min(fits, key=lambda quality: fits[quality])
    return best if fits[best] < _MAX_MISFIT else None


_LOW_FREQUENCIES: Final = 4
"""Rows and columns of the coefficients that are compared in single blocks: higher ones are rarely kept."""


def measure_block_misfits(luma: Pixels, max_quality: int) -> Iterator[tuple[int, Floats, Floats]]:
    """Measure how far the coefficients of each 8x8 block are from the steps of each JPEG quality up to a maximum.

    Args:
        luma: HxW brightness, whole blocks.
        max_quality: The highest quality that is tried.

    Yields:
        A quality, and for each block the sum of the distances relative to the expectation by chance, and their number.
        Blocks that are flat or reach black or white count nothing.
    """
    rows, columns = (side // _BLOCK_PIXELS for side in luma.shape)
    blocks = luma.reshape(rows, _BLOCK_PIXELS, columns, _BLOCK_PIXELS).swapaxes(1, 2)
    low, high = blocks.min(axis=(2, 3)), blocks.max(axis=(2, 3))
    alive = (high < 255) & (low > 0) & (high - low > 8)
    basis = _dct_basis()[:_LOW_FREQUENCIES]
    coefficients = basis @ (blocks[alive].astype(np.float32) - 128) @ basis.T
    for quality in (one for one in _CANDIDATE_QUALITIES if one <= max_quality):
        steps = _quantisation_steps(quality)[:_LOW_FREQUENCIES, :_LOW_FREQUENCIES]
        scaled = coefficients / steps
        lively = np.abs(scaled) >= 1 - 0.5 / steps
        lively[:, 0, 0] = True
        off = np.abs(scaled - np.rint(scaled)) / _MEAN_DISTANCE_BY_CHANCE
        distances, counts = (np.zeros((rows, columns), dtype=np.float32) for _ in range(2))
        distances[alive] = (off * lively).sum(axis=(1, 2))
        counts[alive] = lively.sum(axis=(1, 2))
        yield quality, distances, counts


def _block_coefficients(luma: Pixels) -> Floats | None:
    """Block transforms, Nx8x8, of blocks on the page's grid that are not flat."""
    height, width = (side // _BLOCK_PIXELS * _BLOCK_PIXELS for side in luma.shape)
    grid = luma[:height, :width].reshape(
        height // _BLOCK_PIXELS, _BLOCK_PIXELS, width // _BLOCK_PIXELS, _BLOCK_PIXELS
    )
    blocks = grid.swapaxes(1, 2).reshape(-1, _BLOCK_PIXELS, _BLOCK_PIXELS)
    blocks = blocks[:: max(1, blocks.shape[0] // (8 * _MAX_BLOCKS))]
    alive = blocks[
        (blocks.max(axis=(1, 2)) < 255) & (blocks.min(axis=(1, 2)) > 0) & (np.ptp(blocks, axis=(1, 2)) > 8)
    ]
    if alive.shape[0] < _MIN_BLOCKS:
        return None
    alive = alive[:: max(1, alive.shape[0] // _MAX_BLOCKS)].astype(np.float32) - 128
    basis = _dct_basis()
    transformed: Floats = basis @ alive @ basis.T
    return transformed


def _dct_basis() -> Floats:
    """The 8-point DCT-II, orthonormal."""
    k, n = np.mgrid[0:_BLOCK_PIXELS, 0:_BLOCK_PIXELS].astype(np.float32)
    basis: Floats = np.sqrt(2 / _BLOCK_PIXELS) * np.cos(np.pi * (2 * n + 1) * k / (2 * _BLOCK_PIXELS))
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


@lru_cache
def _quantisation_steps(quality: int) -> Floats:
    """Quantisation steps of brightness, 8x8, that libjpeg computes for a quality."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        tables = image.quantization  # type: ignore[attr-defined]
        steps: Floats = np.array(tables[0], dtype=np.float32).reshape(_BLOCK_PIXELS, _BLOCK_PIXELS)
        return steps


def _measure_misfit(coefficients: Floats, steps: Floats) -> float:
    """Mean distance of large coefficients from multiples of their steps, relative to the expectation by chance."""
    scaled = coefficients / steps
    lively = (np.abs(scaled) >= 1 - 0.5 / steps) & (steps >= 3)
    if int(lively.sum()) < _MIN_BLOCKS:
        return 1.0
    # Rounding to whole levels moves a coefficient by up to about half a level.
    off = np.abs(scaled - np.rint(scaled))
    return float(off[lively].mean()) / _MEAN_DISTANCE_BY_CHANCE
