"""Did brightness and colour stay, as a whole and in every region?"""

from itertools import pairwise
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.domain.result import Check
from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.view import Floats, Pair, cells
from panelworks.quality.checks.shape import judged, place, region_of, worst_of

CELL: Final = 16
"""Side of the cells that are compared, in pixels of the source, more or less: they divide a page evenly."""
CELL_LIMIT: Final = 14.0
"""Most that the mean of one cell may move, in levels."""
HUE_LIMIT: Final = 8.0
"""Most that one cell may move in one channel against the others, in levels."""
TONE_LIMIT: Final = 1.4
"""Most that the cells may move on average, in levels of one channel: gamma slips and posterised skies."""
TINT_LIMIT: Final = 3.0
"""Most that dark, middle or light cells may move together in one channel, in levels."""
POINT_LIMIT: Final = 3.0
"""Most that the mean of paper white, or of solid black, may move, in levels."""
_POINT: Final = 5
"""Levels from the end of the scale that still count as white or black."""
_LEAST_AREA: Final = 64
"""Pixels of white or black that a page must have before they are compared."""
_LEAST_CELLS: Final = 64
"""Cells from which their average says something."""
_CLASSES: Final = ((0.0, 80.0), (80.0, 176.0), (176.0, 256.0))
_LEAST_SHARE: Final = 0.03
"""Share of the cells that a class of brightness must have before it is compared."""
_ALIVE: Final = 6.0
"""Standard deviation of a source cell from which its counterpart must not be constant."""
_DEAD: Final = 0.25
"""Standard deviation below which a cell of the result is constant."""


def cell_tones(pair: Pair) -> list[Check]:
    """The three questions about the means of cells: the worst one, all together, and classes of brightness."""
    was, now = cells(pair.was, CELL), cells(pair.now, CELL)
    if was.ndim == 2:
        was, now = was[:, :, None], now[:, :, None]
    moved = now - was
    return [_worst(pair, moved), _average(moved), _tint(was, moved), _hue(pair, moved)]


def _worst(pair: Pair, moved: Floats) -> Check:
    value, row, column = worst_of(np.abs(moved).max(axis=2))
    region = region_of(pair, moved.shape, row, column)
    said = f"the colour of {place(region)} changed by {value:.0f} levels"
    return judged("low_frequencies", value, CELL_LIMIT, said, region)


def _hue(pair: Pair, moved: Floats) -> Check:
    """The worst cell by colour alone: channels that move against each other."""
    against = moved - moved.mean(axis=2, keepdims=True)
    value, row, column = worst_of(np.abs(against).max(axis=2))
    region = region_of(pair, moved.shape, row, column)
    said = f"{place(region)} changed their hue by {value:.0f} levels"
    return judged("hue", value, HUE_LIMIT, said, region)


def _average(moved: Floats) -> Check:
    value = float(np.abs(moved).mean(axis=(0, 1)).max()) if moved[:, :, 0].size >= _LEAST_CELLS else 0.0
    return judged("tone", value, TONE_LIMIT, f"the tones of the page moved by {value:.1f} levels on average")


def _tint(was: Floats, moved: Floats) -> Check:
    value = 0.0
    for channel in range(was.shape[2] if was[:, :, 0].size >= _LEAST_CELLS else 0):
        level, drift = was[:, :, channel], moved[:, :, channel]
        for low, high in _CLASSES:
            inside = (level >= low) & (level < high)
            if inside.mean() >= _LEAST_SHARE:
                value = max(value, abs(float(np.median(drift[inside]))))
    return judged("tint", value, TINT_LIMIT, f"a whole range of tones was tinted by {value:.1f} levels")


def white_and_black(pair: Pair) -> Check:
    """Paper white and solid black, away from any line, stay what they are."""
    was, now = pair.luma_was, pair.luma_now
    moved = 0.0
    for area in (was >= 255 - _POINT, was <= _POINT):
        inside = cv2.erode(area.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        if np.count_nonzero(inside) >= _LEAST_AREA:
            moved = max(moved, abs(float(was[inside].mean()) - float(now[inside].mean())))
    return judged("white_and_black", moved, POINT_LIMIT, f"black or white moved by {moved:.0f} levels")


def dead_regions(source: Picture, result: Picture) -> Check:
    """No cell is constant in the result that has something in the source."""
    counts = (max(1, round(source.height / CELL)), max(1, round(source.width / CELL)))
    alive = _deviation(source.luma(), counts) > _ALIVE
    dead = alive & (_deviation(result.luma(), counts) < _DEAD)
    return judged("dead_regions", float(dead.sum()), 0, "a region of the page came back empty")


def _borders(length: int, count: int) -> npt.NDArray[np.intp]:
    """Borders of `count` near-equal cells, the first 0, the last `length`."""
    return np.rint(np.linspace(0, length, count + 1)).astype(np.intp)


def _deviation(luma: Pixels, counts: tuple[int, int]) -> Floats:
    """Standard deviation of brightness in each of `counts` (rows, columns) cells."""
    tops, lefts = _borders(luma.shape[0], counts[0]), _borders(luma.shape[1], counts[1])
    deviation = np.zeros(counts, dtype=np.float32)
    for row, (top, bottom) in enumerate(pairwise(tops)):
        band = luma[top:bottom].astype(np.float64)
        pixels = (bottom - top) * np.diff(lefts)
        mean = np.add.reduceat(band.sum(axis=0), lefts[:-1]) / pixels
        mean_of_squares = np.add.reduceat((band * band).sum(axis=0), lefts[:-1]) / pixels
        deviation[row] = np.sqrt(np.maximum(mean_of_squares - mean * mean, 0))
    return deviation
