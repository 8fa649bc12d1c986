"""Is the same drawn in the same place, with lines as strong as they were?"""

from typing import Final

import cv2
import numpy as np

from panelworks.domain.result import Check
from panelworks.pictures.view import Floats, Pair, cells, gradient
from panelworks.quality.checks.shape import judged, place, region_of, worst_of

SHIFT_LIMIT: Final = 0.2
"""Most that the page as a whole may be moved, in pixels of the source."""
REGION_SHIFT_LIMIT: Final = 0.6
"""Most that one region may be moved, in pixels of the source."""
STRUCTURE_LIMIT: Final = 0.35
"""Most that a drawn cell may lack of full correlation with its source."""
LINES_LIMIT: Final = 0.19
"""Most of their steepness that lines may lose."""
HARSH_LIMIT: Final = 0.45
"""Most steepness that lines may gain, seen at the size of the source."""
STROKES_LIMIT: Final = 0.3
"""Most of the pixels of its thin strokes that a cell may lose."""
HALO_LIMIT: Final = 2.4
"""Most that lines may overshoot what is around them in the source, in levels on average."""
_REGION: Final = 96
_LEAST_PAGE: Final = 128 * 128
"""Pixels from which the motion of a page as a whole is asked for."""
_CELL: Final = 32
_DRAWN: Final = 5.0
"""Standard deviation from which a cell is drawn, in levels."""
_STEEP: Final = 12.0
"""Gradient of a line, in levels a pixel."""
_LEAST_STEEP: Final = 200
_THIN: Final = 7
"""Strokes thinner than this, in pixels of the source, are looked at: lettering, hatching."""
_CONTRAST: Final = 60.0
"""Levels by which a stroke stands out of what is around it."""
_INKED: Final = 0.05
"""Share of a cell's pixels that are strokes, from which they are compared."""


def alignment(pair: Pair) -> list[Check]:
    """Neither the page nor a region is moved: Lucas and Kanade, An iterative image registration technique (1981)."""
    was = cv2.GaussianBlur(pair.luma_was, (0, 0), 1.2)
    change = cv2.GaussianBlur(pair.luma_now, (0, 0), 1.2) - was
    across = cv2.Sobel(was, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    down = cv2.Sobel(was, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    factors = ((across, across), (across, down), (down, down), (across, change), (down, change))
    means = np.dstack([cells(first * second, _REGION) for first, second in factors])
    whole = 0.0
    if was.size >= _LEAST_PAGE:
        whole = float(_shift(means.mean(axis=(0, 1))[None, None])[0, 0])
    regions = _shift(means)
    value, row, column = worst_of(regions)
    region = region_of(pair, regions.shape, row, column)
    return [
        judged("shift", whole, SHIFT_LIMIT, f"the page was moved by {whole:.1f} pixels"),
        judged(
            "region_shift",
            value,
            REGION_SHIFT_LIMIT,
            f"{place(region)} were moved by {value:.1f} pixels",
            region,
        ),
    ]


def _shift(means: Floats) -> Floats:
    """Length of the shift that explains the change; 0 where too little is drawn to tell."""
    xx, xy, yy, xt, yt = np.moveaxis(means.astype(np.float64), 2, 0)
    determinant = xx * yy - xy * xy
    least = (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy * xy)) / 2
    clear = least > 1.0
    safe = np.where(clear, determinant, 1)
    right = -(yy * xt - xy * yt) / safe
    lower = -(xx * yt - xy * xt) / safe
    return np.where(clear, np.hypot(right, lower), 0).astype(np.float32)


def correlation(pair: Pair) -> Check:
    """Each drawn cell shows what it showed: normalised correlation of the two, a little blurred."""
    was, now = (cv2.GaussianBlur(luma, (0, 0), 1.0) for luma in (pair.luma_was, pair.luma_now))
    mean_was, mean_now = cells(was, _CELL), cells(now, _CELL)
    variance_was = np.maximum(cells(was * was, _CELL) - mean_was**2, 0)
    variance_now = np.maximum(cells(now * now, _CELL) - mean_now**2, 0)
    together = cells(was * now, _CELL) - mean_was * mean_now
    drawn = np.maximum(variance_was, variance_now) > _DRAWN**2
    likeness = together / np.sqrt(np.maximum(variance_was * variance_now, 1.0))
    lack = np.where(drawn, 1 - likeness, 0).astype(np.float32)
    value, row, column = worst_of(lack)
    region = region_of(pair, lack.shape, row, column)
    said = f"{place(region)} show something else than before"
    return judged("structure", value, STRUCTURE_LIMIT, said, region)


def lines(pair: Pair) -> list[Check]:
    """Lines are as steep as they were: smoothing takes that away, sharpening adds to it."""
    steep = pair.steepness > _STEEP
    gain = 0.0
    if np.count_nonzero(steep) >= _LEAST_STEEP:
        gain = float(gradient(pair.luma_now)[steep].mean()) / float(pair.steepness[steep].mean()) - 1
    return [
        judged("lines", max(0.0, -gain), LINES_LIMIT, f"lines lost {-100 * gain:.0f} % of their steepness"),
        judged("harshness", max(0.0, gain), HARSH_LIMIT, f"lines became {100 * gain:.0f} % steeper"),
    ]


def strokes(pair: Pair) -> Check:
    """Thin strokes, dark or light, are still there in every cell: lettering stays legible.

    A pixel of a stroke is lost when its contrast with what is around it fell below a third.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_THIN, _THIN))
    lost = np.zeros((1, 1), dtype=np.float32)
    for manner in (cv2.MORPH_BLACKHAT, cv2.MORPH_TOPHAT):
        was = cv2.morphologyEx(pair.luma_was, manner, kernel)
        now = cv2.morphologyEx(pair.luma_now, manner, kernel)
        drawn = was > _CONTRAST
        share = cells(drawn, _CELL)
        gone = cells(drawn & (now < was / 3), _CELL)
        lost = np.maximum(lost, np.where(share >= _INKED, gone / np.maximum(share, 1e-3), 0))
    value, row, column = worst_of(lost)
    region = region_of(pair, lost.shape, row, column)
    said = f"{100 * value:.0f} % of the thin strokes in {place(region)} are gone"
    return judged("strokes", value, STROKES_LIMIT, said, region)


def halo(pair: Pair) -> Check:
    """Beside lines nothing is brighter or darker than all around it was."""
    kernel = np.ones((5, 5), np.uint8)
    steep = pair.steepness > _STEEP
    if np.count_nonzero(steep) < _LEAST_STEEP:
        return judged("halo", 0.0, HALO_LIMIT, "")
    beside = cv2.dilate(steep.astype(np.uint8), kernel) > 0
    over = np.maximum(pair.luma_now - cv2.dilate(pair.luma_was, kernel), 0)
    under = np.maximum(cv2.erode(pair.luma_was, kernel) - pair.luma_now, 0)
    value = float((over + under)[beside].mean())
    return judged("halo", value, HALO_LIMIT, f"lines have halos of {value:.1f} levels on average")
