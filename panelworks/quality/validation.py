"""Validation: is the enhanced picture still the source, only better?

Every check compares with the source; none trusts the network. A first set, made to catch what is
plainly wrong: another size, lost alpha, tint, dead or swapped regions, shifted or foreign content.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import Picture, Pixels
from panelworks.quality.report import QualityReport
from panelworks.records import Check, Verdict

Floats = npt.NDArray[np.float32]

CELL: Final = 16
"""Side, in source pixels, of the cells that are compared, more or less: they divide a page evenly."""
CELL_LIMIT: Final = 16.0
"""Most that the mean of one cell may move, in levels; GAN-trained networks stay below 10."""
MEAN_LIMIT: Final = 3.0
"""Most that the mean over all cells may move in one channel, in levels: beyond it the eye sees a tint."""
DETAIL_LIMIT: Final = 12.0
"""Largest mean difference between the source and the result shrunk back, in levels."""
POINT_LIMIT: Final = 4.0
"""Most that the mean of paper white, or of solid black, may move, in levels."""
_POINT: Final = 5
"""Levels from the end of the scale that still count as white or black."""
SCORE_TOLERANCE: Final = 0.02
"""An overall score this much below the source's still counts as no worse."""
_LEAST_AREA: Final = 64
"""Pixels of white or black that a page must have before they are compared."""
_ALIVE: Final = 6.0
"""Standard deviation of a source cell from which its counterpart must not be constant."""
_DEAD: Final = 0.25
"""Standard deviation below which a cell of the result is constant."""


def validate(
    source: Picture,
    enhanced: Picture,
    expected_size: tuple[int, int],
    before: QualityReport,
    after: QualityReport,
) -> Verdict:
    """The verdict on an enhancement; its reason names the first check that failed.

    Pixel checks are skipped when the size or kind is already wrong; transparent parts are compared
    on white paper, since nobody sees the colour beneath.
    """
    checks = [
        _check_size(enhanced, expected_size),
        _check_gray(source, enhanced),
        _check_alpha(source, enhanced),
    ]
    if all(check.passed for check in checks):
        source, enhanced = on_paper(source), on_paper(enhanced)
        shrunk = _shrink(enhanced, source.size)
        comparisons: tuple[Callable[[Picture, Picture], Check], ...] = (
            _check_cells,
            _check_tint,
            _check_detail,
            _check_points,
        )
        checks += [compare(source, shrunk) for compare in comparisons]
        checks += [_check_dead_cells(source, enhanced), _check_score(before, after)]
    failed = next((check for check in checks if not check.passed), None)
    return Verdict(
        passed=failed is None,
        reason="all checks passed" if failed is None else failed.message,
        checks=tuple(checks),
        after=after,
    )


def validate_finish(faithful: Picture, master: Picture, verdict: Verdict, after: QualityReport) -> Verdict:
    """The verdict, continued over what was changed on purpose after the enlargement.

    Such a change may move tones and add transparency, but loses neither pixels nor grayness nor a drawn region.
    """
    checks = [
        _check_size(master, faithful.size),
        _check_gray(faithful, master),
    ]
    if all(check.passed for check in checks):
        checks.append(_check_dead_cells(Picture(faithful.pixels), Picture(master.pixels)))
    failed = next((check for check in checks if not check.passed), None)
    return Verdict(
        passed=failed is None,
        reason=verdict.reason if failed is None else f"after the enlargement: {failed.message}",
        checks=(*verdict.checks, *checks),
        after=after,
    )


def _check_size(enhanced: Picture, expected: tuple[int, int]) -> Check:
    wrong = abs(enhanced.width - expected[0]) + abs(enhanced.height - expected[1])
    return _judge(
        "size",
        wrong,
        0,
        f"the result is {enhanced.width} x {enhanced.height} instead of {expected[0]} x {expected[1]}",
    )


def _check_gray(source: Picture, enhanced: Picture) -> Check:
    tinted = source.is_gray and not enhanced.is_gray
    return _judge("gray", float(tinted), 0, "a gray page came back in colour")


def _check_alpha(source: Picture, enhanced: Picture) -> Check:
    lost = (source.alpha is None) != (enhanced.alpha is None)
    return _judge("alpha", float(lost), 0, "the transparency of the page was lost or invented")


def _check_cells(source: Picture, shrunk: Picture) -> Check:
    moved = np.abs(_cell_means(shrunk) - _cell_means(source)).max(axis=2)
    row, column = np.unravel_index(int(moved.argmax()), moved.shape)
    return _judge(
        "low_frequencies",
        float(moved.max()),
        CELL_LIMIT,
        f"the region at {column * CELL},{row * CELL} of the source changed its colour by {moved.max():.0f} levels",
    )


def _check_tint(source: Picture, shrunk: Picture) -> Check:
    drift = (_cell_means(shrunk) - _cell_means(source)).mean(axis=(0, 1))
    worst = float(np.abs(drift).max())
    return _judge("tint", worst, MEAN_LIMIT, f"the page as a whole was tinted by {worst:.1f} levels")


def _check_detail(source: Picture, shrunk: Picture) -> Check:
    difference = np.abs(source.luma().astype(np.int16) - shrunk.luma())
    value = float(difference.mean(dtype=np.float64))
    return _judge(
        "detail", value, DETAIL_LIMIT, f"shrunk back, the page differs from its source by {value:.0f} levels"
    )


def _check_points(source: Picture, shrunk: Picture) -> Check:
    """Paper white and solid black, away from any line, must stay what they are."""
    was, now = source.luma(), shrunk.luma()
    moved = 0.0
    for area in (_inside(was >= 255 - _POINT), _inside(was <= _POINT)):
        if np.count_nonzero(area) >= _LEAST_AREA:
            moved = max(moved, abs(float(was[area].mean()) - float(now[area].mean())))
    return _judge("white_and_black", moved, POINT_LIMIT, f"black or white moved by {moved:.0f} levels")


def _inside(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of an area whose whole 7x7 neighbourhood belongs to it."""
    for _ in range(2):  # rows, then, transposed, columns
        eroded = area.copy()
        for shift in (1, 2, 3):
            eroded[shift:] &= area[:-shift]
            eroded[:-shift] &= area[shift:]
        area = eroded.T
    return area


def _check_dead_cells(source: Picture, enhanced: Picture) -> Check:
    """Cells that are constant or black in the result although the source has something there."""
    counts = (_cell_count(source.height), _cell_count(source.width))
    alive = _cell_deviation(source.luma(), counts) > _ALIVE
    dead = alive & (_cell_deviation(enhanced.luma(), counts) < _DEAD)
    return _judge("dead_regions", float(dead.sum()), 0, "a region of the page came back empty")


def _check_score(before: QualityReport, after: QualityReport) -> Check:
    lost = round(before.overall - after.overall, 4)
    return _judge(
        "score",
        lost,
        SCORE_TOLERANCE,
        f"the quality fell from {before.overall:.2f} to {after.overall:.2f}",
    )


def _judge(name: str, value: float, limit: float, message: str) -> Check:
    """A check that passes up to its limit. `message` is what to say when it does not; NaN never passes."""
    passed = bool(value <= limit)
    return Check(
        name=name,
        passed=passed,
        value=round(float(value), 4),
        limit=limit,
        message="ok" if passed else message,
    )


def _shrink(enhanced: Picture, size: tuple[int, int]) -> Picture:
    """The result at the size of the source."""
    if enhanced.size == size:
        return Picture(enhanced.pixels)
    pixels = enhanced.pixels
    plane = pixels[:, :, 0] if enhanced.is_gray else pixels
    # Pillow's box filter takes whole pixels only: at a fractional factor it would shift by half a one.
    whole = enhanced.width % size[0] == 0 and enhanced.height % size[1] == 0
    manner = Image.Resampling.BOX if whole else Image.Resampling.HAMMING
    shrunk = np.asarray(Image.fromarray(plane).resize(size, manner))
    return Picture(shrunk.reshape(size[1], size[0], pixels.shape[2]))


def _cell_count(length: int) -> int:
    """How many cells of about `CELL` pixels a side is divided into; none is thinner than half of that."""
    return max(1, round(length / CELL))


def _borders(length: int, count: int) -> npt.NDArray[np.intp]:
    """Borders of `count` near-equal cells, the first 0, the last `length`."""
    return np.rint(np.linspace(0, length, count + 1)).astype(np.intp)


def _cell_means(picture: Picture) -> Floats:
    """Mean colour of each cell, rows x columns x channels."""
    tops = _borders(picture.height, _cell_count(picture.height))
    lefts = _borders(picture.width, _cell_count(picture.width))
    by_rows = np.add.reduceat(picture.pixels, tops[:-1], axis=0, dtype=np.uint32)
    sums = np.add.reduceat(by_rows, lefts[:-1], axis=1)
    return np.asarray(sums / (np.diff(tops)[:, None] * np.diff(lefts)[None, :])[:, :, None], dtype=np.float32)


def _cell_deviation(luma: Pixels, counts: tuple[int, int]) -> Floats:
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
