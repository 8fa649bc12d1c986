"""Checks that the same is drawn in the same place with lines of the same strength."""

from typing import Final

import cv2
import numpy as np

from panelworks.domain.result import Check
from panelworks.pictures.view import Floats, Pair, cell_means, gradient
from panelworks.quality.checks import describe_region, find_worst, make_check, region_of_cell

MAX_PAGE_SHIFT: Final = 0.2
"""Maximum shift of the whole page, in pixels of the source."""
MAX_REGION_SHIFT: Final = 0.6
"""Maximum shift of a region, in pixels of the source."""
MAX_CORRELATION_LOSS: Final = 0.35
"""Maximum loss of correlation of a drawn cell with its source."""
MAX_STEEPNESS_LOSS: Final = 0.19
"""Maximum relative loss of steepness of lines."""
MAX_STEEPNESS_GAIN: Final = 0.45
"""Maximum relative gain of steepness of lines, at the size of the source."""
MAX_STROKE_LOSS: Final = 0.3
"""Maximum share of the pixels of thin strokes that a cell may lose."""
MAX_HALO_LEVELS: Final = 2.4
"""Maximum mean overshoot of lines over their surroundings in the source, in levels."""
_REGION_PIXELS: Final = 96
_MIN_PAGE_PIXELS: Final = 128 * 128
"""Minimum size of a page whose shift as a whole is measured."""
_CELL_PIXELS: Final = 32
_MIN_DRAWN_DEVIATION: Final = 5.0
"""Minimum standard deviation of a drawn cell, in levels."""
_MIN_LINE_GRADIENT: Final = 12.0
"""Minimum gradient of a line, in levels a pixel."""
_MIN_LINE_PIXELS: Final = 200
_MAX_STROKE_PIXELS: Final = 7
"""Thinner strokes are checked, such as lettering and hatching. In pixels of the source."""
_MIN_STROKE_CONTRAST: Final = 60.0
"""Minimum contrast of a stroke with its surroundings, in levels."""
_MIN_STROKE_SHARE: Final = 0.05
"""Minimum share of stroke pixels of a cell to be compared."""


def check_alignment(pair: Pair) -> list[Check]:
    """Check that neither the page nor a region moved: Lucas and Kanade, An iterative image registration technique
    (1981)."""
    before = cv2.GaussianBlur(pair.luma_before, (0, 0), 1.2)
    change = cv2.GaussianBlur(pair.luma_after, (0, 0), 1.2) - before
    across = cv2.Sobel(before, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(before, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    factors = ((across, across), (across, down), (down, down), (across, change), (down, change))
    means = np.dstack([cell_means(first * second, _REGION_PIXELS) for first, second in factors])
    whole = 0.0
    if before.size >= _MIN_PAGE_PIXELS:
        whole = float(_shift_lengths(means.mean(axis=(0, 1))[None, None])[0, 0])
    regions = _shift_lengths(means)
    value, row, column = find_worst(regions)
    region = region_of_cell(pair, regions.shape, row, column)
    return [
        make_check("shift", whole, MAX_PAGE_SHIFT, f"the page moved by {whole:.1f} pixels"),
        make_check(
            "region_shift",
            value,
            MAX_REGION_SHIFT,
            f"{describe_region(region)} moved by {value:.1f} pixels",
            region,
        ),
    ]


def _shift_lengths(means: Floats) -> Floats:
    """Length of the shift that explains the change; 0 if too little is drawn."""
    xx, xy, yy, xt, yt = np.moveaxis(means.astype(np.float64), 2, 0)
    determinant = xx * yy - xy * xy
    least = (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy * xy)) / 2
    clear = least > 1.0
    safe = np.where(clear, determinant, 1)
    right = -(yy * xt - xy * yt) / safe
    lower = -(xx * yt - xy * xt) / safe
    return np.where(clear, np.hypot(right, lower), 0).astype(np.float32)


def check_correlation(pair: Pair) -> Check:
    """Check the content of each drawn cell: normalised correlation of both pictures after a slight blur."""
    before, after = (cv2.GaussianBlur(luma, (0, 0), 1.0) for luma in (pair.luma_before, pair.luma_after))
    mean_before, mean_after = cell_means(before, _CELL_PIXELS), cell_means(after, _CELL_PIXELS)
    variance_before = np.maximum(cell_means(before * before, _CELL_PIXELS) - mean_before**2, 0)
    variance_after = np.maximum(cell_means(after * after, _CELL_PIXELS) - mean_after**2, 0)
    together = cell_means(before * after, _CELL_PIXELS) - mean_before * mean_after
    drawn = np.maximum(variance_before, variance_after) > _MIN_DRAWN_DEVIATION**2
    likeness = together / np.sqrt(np.maximum(variance_before * variance_after, 1.0))
    lack = np.where(drawn, 1 - likeness, 0).astype(np.float32)
    value, row, column = find_worst(lack)
    region = region_of_cell(pair, lack.shape, row, column)
    message = f"the content of {describe_region(region)} changed"
    return make_check("structure", value, MAX_CORRELATION_LOSS, message, region)


def check_lines(pair: Pair) -> list[Check]:
    """Check the steepness of lines: smoothing reduces it, sharpening increases it."""
    steep = pair.steepness > _MIN_LINE_GRADIENT
    gain = 0.0
    if np.count_nonzero(steep) >= _MIN_LINE_PIXELS:
        gain = float(gradient(pair.luma_after)[steep].mean()) / float(pair.steepness[steep].mean()) - 1
    return [
        make_check(
            "lines", max(0.0, -gain), MAX_STEEPNESS_LOSS, f"lines lost {-100 * gain:.0f} % of their steepness"
        ),
        make_check(
            "harshness", max(0.0, gain), MAX_STEEPNESS_GAIN, f"lines became {100 * gain:.0f} % steeper"
        ),
    ]


def check_strokes(pair: Pair) -> Check:
    """Check that each cell keeps its thin strokes, dark or light, so that lettering stays legible.

    A pixel of a stroke is lost if its contrast with its surroundings fell below a third.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_MAX_STROKE_PIXELS, _MAX_STROKE_PIXELS))
    lost = np.zeros((1, 1), dtype=np.float32)
    for manner in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT):
        before = cv2.morphologyEx(pair.bytes_before, manner, kernel)
        after = cv2.morphologyEx(pair.bytes_after, manner, kernel)
        drawn = before > _MIN_STROKE_CONTRAST
        share = cell_means(drawn, _CELL_PIXELS)
        gone = cell_means(drawn & (after * np.float32(3) < before), _CELL_PIXELS)
        lost = np.maximum(lost, np.where(share >= _MIN_STROKE_SHARE, gone / np.maximum(share, 1e-3), 0))
    value, row, column = find_worst(lost)
    region = region_of_cell(pair, lost.shape, row, column)
    message = f"{100 * value:.0f} % of the thin strokes in {describe_region(region)} were lost"
    return make_check("strokes", value, MAX_STROKE_LOSS, message, region)


def check_halo(pair: Pair) -> Check:
    """Check for halos: pixels beside lines that are brighter or darker than all their surroundings in the source."""
    kernel = np.ones((5, 5), np.uint8)
    steep = pair.steepness > _MIN_LINE_GRADIENT
    if np.count_nonzero(steep) < _MIN_LINE_PIXELS:
        return make_check("halo", 0.0, MAX_HALO_LEVELS, "")
    beside = cv2.dilate(steep.astype(np.uint8), kernel) > 0
    over = np.maximum(pair.luma_after - cv2.dilate(pair.luma_before, kernel), 0)
    under = np.maximum(cv2.erode(pair.luma_before, kernel) - pair.luma_after, 0)
    value = float((over + under)[beside].mean())
    return make_check("halo", value, MAX_HALO_LEVELS, f"lines have halos of {value:.1f} levels on average")
