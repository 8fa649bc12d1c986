"""Has something come in that nobody drew: texture on a wall, a pattern of pixels, a seam, stairs?"""

from typing import Final

import cv2
import numpy as np

from panelworks.domain.options import Region
from panelworks.domain.result import Check
from panelworks.pictures.picture import Pixels
from panelworks.pictures.view import Floats, Pair, cells
from panelworks.quality.checks.shape import judged, place, region_of, worst_of
from panelworks.quality.patterns import stairs

TEXTURE_LIMIT: Final = 1.6
"""Most standard deviation that may be new in a flat area, in levels; the livelier it was, the more may be."""
PATTERN_LIMIT: Final = 1.2
"""Most amplitude of a pattern that repeats every two pixels, in levels."""
SEAM_LIMIT: Final = 0.7
"""Highest step that may run straight through calm areas, in levels."""
STAIRS_LIMIT: Final = 0.5
"""Most that stairs in slopes may grow, as the log of their number a thousand pixels."""
LEVELS_LIMIT: Final = 0.5
"""Most of the levels of a channel that may fall out of use, as a share."""
_MANY_LEVELS: Final = 16
_CELL: Final = 8
_CALM: Final = 10.0
"""Standard deviation up to which a cell of the source is calm, in levels."""
_FLAT: Final = 1.5
"""Standard deviation up to which a cell is flat: whatever the result has there is new."""
_BORDERED: Final = 4.0
"""Mean range of brightness over 5 px from which a flat cell lies beside something drawn, in levels."""
_LIVELY: Final = 4.0
"""Standard deviation at which twice as much may be new."""
_AREA: Final = 3
"""Cells a side of the smallest calm area that is looked at."""
_PATTERN_CELL: Final = 32
_LEAST_CALM: Final = 4
_LEAST_CELLS: Final = 200
"""Cells that a page without calm places must have, so that drawn detail averages out."""
_TRUST: Final = 0.45
_BAND: Final = 384
"""Rows or columns over which a seam is looked for: borders of tiles are long, borders of drawn things are not."""
_SIDE: Final = 12
"""Pixels on either side of a seam that are compared."""
_MOST_STEP: Final = 3.0
"""Larger changes are drawn, and count as this many levels."""
_DRAWN: Final = 16.0
"""Gradient, in levels a pixel, at which a pixel's say has fallen to a third."""
_LEAST_WEIGHT: Final = 0.1
"""Say that the pixels along a seam must have together, as a share of its length."""
_LEAST_RESULT: Final = 64


def calm_areas(pair: Pair) -> Check:
    """Areas that were calm have no new texture: grain, ringing, a pattern, a hallucinated brick."""
    was = _deviation(pair.luma_was)
    # Where something is drawn, a larger picture of it is livelier by itself: there the shrunk one is compared.
    now = np.where(was < _FLAT, _deviation(pair.result_luma, was.shape), _deviation(pair.luma_now))
    kernel = np.ones((_AREA + 2, _AREA + 2), np.uint8)  # a line one cell further on may ring into a calm cell
    # An edge on the very border of two flat cells makes neither lively: it is seen by the range around pixels.
    square = np.ones((5, 5), np.uint8)
    bordered = cells(cv2.morphologyEx(pair.luma_was, cv2.MORPH_GRADIENT, square), _CELL) > _BORDERED
    marks = ((was < _CALM) & ~(bordered & (was < _FLAT))).astype(np.uint8)
    calm = cv2.erode(marks, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    around = cv2.blur(was, (_AREA, _AREA))
    added = (cv2.blur(now, (_AREA, _AREA)) - 1.3 * around) / (1 + around / _LIVELY)
    grown = np.where(calm, np.maximum(added, 0), 0).astype(np.float32)
    value, row, column = worst_of(grown)
    region = region_of(pair, grown.shape, row, column)
    said = f"texture of {value:.1f} levels appeared where nothing was, in {place(region)}"
    return judged("texture", value, TEXTURE_LIMIT, said, region)


def _deviation(luma: Floats | Pixels, shape: tuple[int, ...] | None = None) -> Floats:
    """Standard deviation of brightness by cells: as many as `shape` says, else of `_CELL` pixels."""
    centred = luma.astype(np.float32) - 128
    mean, squares = cells(centred, _CELL, shape), cells(centred * centred, _CELL, shape)
    return np.asarray(np.sqrt(np.maximum(squares - mean * mean, 0)), dtype=np.float32)


def pattern(pair: Pair) -> Check:
    """No pattern of every second pixel runs over the calm places of the page.

    Badly set transposed convolutions leave one; in lively places drawn detail looks like it, so that a page
    without calm places is trusted less.
    """
    value = _every_second(pair.result_luma)
    if pair.result.size == pair.source.size:
        value = max(0.0, value - _every_second(pair.source.luma()))
    said = f"a pattern of every second pixel, {value:.1f} levels strong, lies over the page"
    return judged("pattern", value, PATTERN_LIMIT, said)


def _every_second(luma: Pixels) -> float:
    """Amplitude of what repeats every two pixels, in levels; 0 where too little is calm to tell."""
    if min(luma.shape) < _LEAST_RESULT:
        return 0.0
    height, width = (side // 2 * 2 for side in luma.shape)
    even, odd = luma[:height:2].astype(np.float32), luma[1:height:2].astype(np.float32)
    a, b, c, d = even[:, :width:2], even[:, 1:width:2], odd[:, :width:2], odd[:, 1:width:2]
    mean, squares = cells(a, _PATTERN_CELL), cells(a * a, _PATTERN_CELL)
    looked_at = squares - mean * mean <= _CALM**2
    trust = 1.0
    if np.count_nonzero(looked_at) < _LEAST_CALM:
        if looked_at.size < _LEAST_CELLS:
            return 0.0
        looked_at, trust = np.ones_like(looked_at), _TRUST
    amplitudes = (a - b - c + d, a + b - c - d, a - b + c - d)
    return max(
        trust * float(np.median(np.abs(cells(amplitude / 4, _PATTERN_CELL))[looked_at]))
        for amplitude in amplitudes
    )


def seams(pair: Pair) -> Check:
    """No straight step runs through calm areas where the source has none: the border of a tile."""
    change = np.clip(pair.luma_now - pair.luma_was, -_MOST_STEP, _MOST_STEP)
    weight = np.exp(-((pair.steepness / np.float32(_DRAWN)) ** 2))
    upright, x, top = _steps(change, weight)
    lying, y, left = _steps(np.ascontiguousarray(change.T), np.ascontiguousarray(weight.T))
    across, down = pair.scale
    if upright >= lying:
        region = Region(left=int(x * across), top=int(top * down), width=1, height=round(_BAND * down))
    else:
        region = Region(left=int(left * across), top=int(y * down), width=round(_BAND * across), height=1)
    value = max(upright, lying)
    said = f"a straight step of {value:.1f} levels runs through {place(region)}"
    return judged("seam", value, SEAM_LIMIT, said, region)


def _steps(change: Floats, weight: Floats) -> tuple[float, int, int]:
    """The highest step across a vertical line over a band of rows, with its column and row."""
    if change.shape[1] < 4 * _SIDE:
        return 0.0, 0, 0
    sums = np.cumsum(np.pad(change, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    means = (sums[:, _SIDE:] - sums[:, :-_SIDE]) / _SIDE
    step = means[:, _SIDE:] - means[:, :-_SIDE]
    calm = cv2.erode(weight, np.ones((1, 2 * _SIDE + 1), np.uint8))[:, _SIDE : _SIDE + step.shape[1]]
    rows = max(1, round(step.shape[0] / _BAND))
    size = (step.shape[1], rows)
    band = step.shape[0] / rows
    weights = cv2.resize(calm, size, interpolation=cv2.INTER_AREA) * band
    steps = cv2.resize((step * calm).astype(np.float32), size, interpolation=cv2.INTER_AREA) * band
    enough = weights >= _LEAST_WEIGHT * band
    height = np.where(enough, np.abs(steps) / np.maximum(weights, 1e-6), 0).astype(np.float32)
    value, row, column = worst_of(height)
    return value, column + _SIDE, round(row * band)


def new_stairs(pair: Pair) -> Check:
    """Slopes have not become stairs."""
    was = stairs(pair.luma_was)["stair_rows"]
    now = stairs(pair.result_luma.astype(np.float32))["stair_rows"]
    return judged("banding", max(0.0, now - was), STAIRS_LIMIT, "slopes of colour have become stairs")


def levels(pair: Pair) -> Check:
    """Each channel still uses as many levels as it did; posterising leaves a few."""
    lost = 0.0
    for channel in range(pair.was.shape[2]):
        was, now = _used(pair.source.pixels[:, :, channel]), _used(pair.result.pixels[:, :, channel])
        if was >= _MANY_LEVELS:
            lost = max(lost, 1 - now / was)
    return judged("levels", lost, LEVELS_LIMIT, f"{100 * lost:.0f} % of the levels of a channel are gone")


def _used(channel: Pixels) -> int:
    return int(np.count_nonzero(cv2.calcHist([np.ascontiguousarray(channel)], [0], None, [256], [0, 256])))
