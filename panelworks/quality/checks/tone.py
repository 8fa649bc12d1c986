"""Checks of brightness and colour of the page and of each region."""

from typing import Final

import cv2
import numpy as np

from panelworks.domain.result import Check
from panelworks.pictures.picture import Pixels
from panelworks.pictures.view import Floats, Pair, cell_deviations, cell_means
from panelworks.quality.checks import describe_region, find_worst, make_check, region_of_cell

CELL_PIXELS: Final = 16
"""Approximate side of the compared cells in pixels of the source: they divide a page evenly."""
MAX_CELL_CHANGE: Final = 14.0
"""Maximum change of the mean of a cell, in levels."""
MAX_HUE_CHANGE: Final = 8.0
"""Maximum change of one channel of a cell relative to the others, in levels."""
MAX_MEAN_CHANGE: Final = 1.4
"""Maximum mean change of the cells, in levels of one channel. It detects gamma errors and posterised skies."""
MAX_TINT: Final = 3.0
"""Maximum common change of dark, middle or light cells in one channel, in levels."""
MAX_POINT_CHANGE: Final = 3.0
"""Maximum change of the mean of paper white or solid black, in levels."""
_POINT_TOLERANCE_LEVELS: Final = 5
"""Levels from the end of the scale that count as white or black."""
_MIN_AREA_PIXELS: Final = 64
"""Minimum number of white or black pixels to be compared."""
_MIN_CELLS: Final = 64
"""Minimum number of cells for a meaningful average."""
_BRIGHTNESS_CLASSES: Final = ((0.0, 80.0), (80.0, 176.0), (176.0, 256.0))
_MIN_CLASS_SHARE: Final = 0.03
"""Minimum share of the cells of a brightness class to be compared."""
_MIN_DRAWN_DEVIATION: Final = 6.0
"""Minimum standard deviation of a source cell whose counterpart must not be constant."""
_MAX_EMPTY_DEVIATION: Final = 0.25
"""Maximum standard deviation of a constant cell of the result."""


def check_cell_tones(pair: Pair) -> list[Check]:
    """Check the means of cells: the worst cell, the average, brightness classes and hue."""
    before, after = cell_means(pair.before, CELL_PIXELS), cell_means(pair.after, CELL_PIXELS)
    moved = after - before
    return [
        _check_worst_cell(pair, moved),
        _check_average(moved),
        _check_tint(before, moved),
        _check_hue(pair, moved),
    ]


def _check_worst_cell(pair: Pair, moved: Floats) -> Check:
    value, row, column = find_worst(np.abs(moved).max(axis=2))
    region = region_of_cell(pair, moved.shape, row, column)
    message = f"the colour of {describe_region(region)} changed by {value:.0f} levels"
    return make_check("low_frequencies", value, MAX_CELL_CHANGE, message, region)


def _check_hue(pair: Pair, moved: Floats) -> Check:
    """Check the cell with the largest change of hue: channels that change relative to each other."""
    against = moved - moved.mean(axis=2, keepdims=True)
    value, row, column = find_worst(np.abs(against).max(axis=2))
    region = region_of_cell(pair, moved.shape, row, column)
    message = f"the hue of {describe_region(region)} changed by {value:.0f} levels"
    return make_check("hue", value, MAX_HUE_CHANGE, message, region)


def _check_average(moved: Floats) -> Check:
    value = float(np.abs(moved).mean(axis=(0, 1)).max()) if moved[:, :, 0].size >= _MIN_CELLS else 0.0
    return make_check(
        "tone", value, MAX_MEAN_CHANGE, f"the tones of the page moved by {value:.1f} levels on average"
    )


def _check_tint(before: Floats, moved: Floats) -> Check:
    value = 0.0
    for channel in range(before.shape[2] if before[:, :, 0].size >= _MIN_CELLS else 0):
        level, drift = before[:, :, channel], moved[:, :, channel]
        for low, high in _BRIGHTNESS_CLASSES:
            inside = (level >= low) & (level < high)
            if inside.mean() >= _MIN_CLASS_SHARE:
                value = max(value, abs(float(np.median(drift[inside]))))
    return make_check("tint", value, MAX_TINT, f"a whole range of tones was tinted by {value:.1f} levels")


def check_white_and_black(pair: Pair) -> Check:
    """Check that paper white and solid black, away from lines, stay the same."""
    before, after = pair.luma_before, pair.luma_after
    moved = 0.0
    for area in (before >= 255 - _POINT_TOLERANCE_LEVELS, before <= _POINT_TOLERANCE_LEVELS):
        inside = cv2.erode(area.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        if np.count_nonzero(inside) >= _MIN_AREA_PIXELS:
            moved = max(moved, abs(float(before[inside].mean()) - float(after[inside].mean())))
    return make_check(
        "white_and_black", moved, MAX_POINT_CHANGE, f"black or white moved by {moved:.0f} levels"
    )


def check_dead_regions(source: Pixels, result: Pixels) -> Check:
    """Check that no drawn cell of the source is constant in the result. Both are brightness, HxW, of any size."""
    alive = cell_deviations(source, CELL_PIXELS) > _MIN_DRAWN_DEVIATION
    dead = alive & (cell_deviations(result, CELL_PIXELS, alive.shape) < _MAX_EMPTY_DEVIATION)
    return make_check("dead_regions", float(dead.sum()), 0, "a region of the page became empty")
