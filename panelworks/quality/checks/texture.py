"""Checks for new texture, patterns of pixels, seams and stairs."""

from typing import Final

import cv2
import numpy as np

from panelworks.domain.options import Region
from panelworks.domain.result import Check
from panelworks.pictures.picture import Pixels
from panelworks.pictures.view import Floats, Pair, cell_deviations, cell_means
from panelworks.quality.checks import describe_region, find_worst, make_check, region_of_cell
from panelworks.quality.patterns import measure_stairs

MAX_NEW_DEVIATION: Final = 1.6
"""Maximum new standard deviation of a flat area, in levels. It is larger for areas with texture."""
MAX_PATTERN_LEVELS: Final = 1.2
"""Maximum amplitude of a pattern that repeats every two pixels, in levels."""
MAX_SEAM_LEVELS: Final = 0.7
"""Maximum straight step through calm areas, in levels."""
MAX_STAIR_GROWTH: Final = 0.5
"""Maximum growth of stairs in slopes, as log of their number per thousand pixels."""
MAX_LEVEL_LOSS: Final = 0.5
"""Maximum share of the levels of a channel that may become unused."""
_MIN_SOURCE_LEVELS: Final = 16
_HISTOGRAM_ROWS: Final = 256
_CELL_PIXELS: Final = 8
_MAX_CALM_DEVIATION: Final = 10.0
"""Maximum standard deviation of a calm cell of the source, in levels."""
_MAX_FLAT_DEVIATION: Final = 1.5
"""Maximum standard deviation of a flat cell. Any texture of the result in it is new."""
_MIN_BORDER_RANGE: Final = 4.0
"""Minimum mean range of brightness over 5 px of a flat cell beside a drawn edge, in levels."""
_DOUBLING_DEVIATION: Final = 4.0
"""Standard deviation of the source at which the limit doubles."""
_MIN_AREA_CELLS: Final = 3
"""Side of the smallest checked calm area in cells."""
_PATTERN_CELL_PIXELS: Final = 32
_MIN_CALM_CELLS: Final = 4
_MIN_CELLS: Final = 200
"""Minimum number of cells of a page without calm places, so that drawn detail averages out."""
_LIVELY_PAGE_WEIGHT: Final = 0.45
_SEAM_PIXELS: Final = 384
"""Length over which seams are searched: borders of tiles are long, borders of drawn shapes are not."""
_SEAM_SIDE_PIXELS: Final = 12
"""Pixels on either side of a seam that are compared."""
_MAX_CHANGE_LEVELS: Final = 3.0
"""Larger changes are part of the drawing. They are limited to this value."""
_DRAWN_GRADIENT: Final = 16.0
"""Gradient, in levels a pixel, at which the weight of a pixel has fallen to a third."""
_MIN_SEAM_WEIGHT: Final = 0.1
"""Minimum total weight of the pixels along a seam, relative to its length."""
_MIN_RESULT_SIDE: Final = 64


def check_calm_areas(pair: Pair) -> Check:
    """Check that calm areas have no new texture, such as grain, ringing, a pattern or hallucinated bricks."""
    before = cell_deviations(pair.bytes_before, _CELL_PIXELS)
    # An enlarged drawing has more deviation in itself, so drawn cells are compared at the smaller size.
    after = np.where(
        before < _MAX_FLAT_DEVIATION,
        cell_deviations(pair.result_luma, _CELL_PIXELS, before.shape),
        cell_deviations(pair.bytes_after, _CELL_PIXELS),
    )
    kernel = np.ones(
        (_MIN_AREA_CELLS + 2, _MIN_AREA_CELLS + 2), np.uint8
    )  # a line in the next cell may ring into a calm cell
    # An edge exactly between two flat cells does not raise their deviation. The range around pixels shows it.
    square = np.ones((5, 5), np.uint8)
    bordered = (
        cell_means(cv2.morphologyEx(pair.bytes_before, cv2.MORPH_GRADIENT, square), _CELL_PIXELS)
        > _MIN_BORDER_RANGE
    )
    marks = ((before < _MAX_CALM_DEVIATION) & ~(bordered & (before < _MAX_FLAT_DEVIATION))).astype(np.uint8)
    calm = cv2.erode(marks, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    around = cv2.blur(before, (_MIN_AREA_CELLS, _MIN_AREA_CELLS))
    added = (cv2.blur(after, (_MIN_AREA_CELLS, _MIN_AREA_CELLS)) - 1.3 * around) / (
        1 + around / _DOUBLING_DEVIATION
    )
    grown = np.where(calm, np.maximum(added, 0), 0).astype(np.float32)
    value, row, column = find_worst(grown)
    region = region_of_cell(pair, grown.shape, row, column)
    message = f"texture of {value:.1f} levels appeared in {describe_region(region)}"
    return make_check("texture", value, MAX_NEW_DEVIATION, message, region)


def check_pattern(pair: Pair) -> Check:
    """Check for a pattern that repeats every two pixels in calm places.

    Unsuitable transposed convolutions produce it. Drawn detail in lively places looks like it, so that a page without
    calm places counts less.
    """
    value = _measure_two_pixel_pattern(pair.result_luma)
    if pair.result.size == pair.source.size:
        value = max(0.0, value - _measure_two_pixel_pattern(pair.source_luma))
    message = f"a pattern that repeats every two pixels covers the page, {value:.1f} levels strong"
    return make_check("pattern", value, MAX_PATTERN_LEVELS, message)


def _measure_two_pixel_pattern(luma: Pixels) -> float:
    """Amplitude of the pattern that repeats every two pixels, in levels; 0 if too few places are calm."""
    if min(luma.shape) < _MIN_RESULT_SIDE:
        return 0.0
    height, width = (side // 2 * 2 for side in luma.shape)
    # The four pixels of each square of two by two. Means of their sums and differences follow from their means.
    squares = [luma[top:height:2, left:width:2] for top in (0, 1) for left in (0, 1)]
    looked_at = cell_deviations(squares[0], _PATTERN_CELL_PIXELS) <= _MAX_CALM_DEVIATION
    trust = 1.0
    if np.count_nonzero(looked_at) < _MIN_CALM_CELLS:
        if looked_at.size < _MIN_CELLS:
            return 0.0
        looked_at, trust = np.ones_like(looked_at), _LIVELY_PAGE_WEIGHT
    a, b, c, d = (cell_means(pixels, _PATTERN_CELL_PIXELS) for pixels in squares)
    amplitudes = (a - b - c + d, a + b - c - d, a - b + c - d)
    return max(trust * float(np.median(np.abs(one / 4)[looked_at])) for one in amplitudes)


def check_seams(pair: Pair) -> Check:
    """Check for straight steps through calm areas that the source does not have: borders of tiles."""
    change = np.clip(pair.luma_after - pair.luma_before, -_MAX_CHANGE_LEVELS, _MAX_CHANGE_LEVELS)
    weight = np.exp(-((pair.steepness / np.float32(_DRAWN_GRADIENT)) ** 2))
    upright, x, top = _find_highest_step(change, weight)
    lying, y, left = _find_highest_step(cv2.transpose(change), cv2.transpose(weight))
    across, down = pair.scale
    if upright >= lying:
        region = Region(left=int(x * across), top=int(top * down), width=1, height=round(_SEAM_PIXELS * down))
    else:
        region = Region(
            left=int(left * across), top=int(y * down), width=round(_SEAM_PIXELS * across), height=1
        )
    value = max(upright, lying)
    message = f"a straight step of {value:.1f} levels runs through {describe_region(region)}"
    return make_check("seam", value, MAX_SEAM_LEVELS, message, region)


def _find_highest_step(change: Floats, weight: Floats) -> tuple[float, int, int]:
    """Find the highest step across a vertical line over a band of rows, with its column and row."""
    if change.shape[1] < 4 * _SEAM_SIDE_PIXELS:
        return 0.0, 0, 0
    means = cv2.blur(change, (_SEAM_SIDE_PIXELS, 1), anchor=(0, 0))[:, : 1 - _SEAM_SIDE_PIXELS]
    step = means[:, _SEAM_SIDE_PIXELS:] - means[:, :-_SEAM_SIDE_PIXELS]
    calm = cv2.erode(weight, np.ones((1, 2 * _SEAM_SIDE_PIXELS + 1), np.uint8))[
        :, _SEAM_SIDE_PIXELS : _SEAM_SIDE_PIXELS + step.shape[1]
    ]
    rows = max(1, round(step.shape[0] / _SEAM_PIXELS))
    size = (step.shape[1], rows)
    band = step.shape[0] / rows
    weights = cv2.resize(calm, size, interpolation=cv2.INTER_AREA) * band
    steps = cv2.resize(step * calm, size, interpolation=cv2.INTER_AREA) * band
    enough = weights >= _MIN_SEAM_WEIGHT * band
    height = np.where(enough, np.abs(steps) / np.maximum(weights, 1e-6), 0).astype(np.float32)
    value, row, column = find_worst(height)
    return value, column + _SEAM_SIDE_PIXELS, round(row * band)


def check_stairs(pair: Pair) -> Check:
    """Check that slopes did not become stairs."""
    before = measure_stairs(pair.bytes_before)["stair_rows"]
    after = measure_stairs(pair.result_luma)["stair_rows"]
    return make_check(
        "banding", max(0.0, after - before), MAX_STAIR_GROWTH, "slopes of colour have become stairs"
    )


def check_levels(pair: Pair) -> Check:
    """Check that each channel still uses most of its levels. Posterising leaves few."""
    before = _count_used_levels(pair.source.pixels)
    after = _count_used_levels(pair.result.pixels, enough=before)
    counts = zip(before, after, strict=True)
    lost = max([0.0, *(1 - kept / used for used, kept in counts if used >= _MIN_SOURCE_LEVELS)])
    return make_check(
        "levels", lost, MAX_LEVEL_LOSS, f"{100 * lost:.0f} % of the levels of a channel were lost"
    )


def _count_used_levels(pixels: Pixels, enough: list[int] | None = None) -> list[int]:
    """Count the levels that each channel uses. Rows are read until each channel uses `enough` levels."""
    used = np.zeros((pixels.shape[2], 256), dtype=np.bool_)
    for top in range(0, pixels.shape[0], _HISTOGRAM_ROWS):
        band = pixels[top : top + _HISTOGRAM_ROWS]
        for channel, levels in enumerate(used):
            levels |= cv2.calcHist([band], [channel], None, [256], [0, 256])[:, 0] > 0
        counts = used.sum(axis=1).tolist()
        if enough is not None and all(np.greater_equal(counts, enough)):
            break
    return [int(count) for count in counts]
