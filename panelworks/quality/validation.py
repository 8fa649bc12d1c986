"""Validation: is the enhanced picture still the source, only better?

Every check compares with the source; none trusts the network. A first set, made to catch what is
plainly wrong: another size, lost alpha, tint, dead or swapped regions, shifted or foreign content.
"""

from collections.abc import Callable
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
"""Side, in source pixels, of the cells whose means are compared."""
CELL_LIMIT: Final = 16.0
"""Most that the mean of one cell may move, in levels; GAN-trained networks stay below 10."""
MEAN_LIMIT: Final = 3.0
"""Most that the mean over all cells may move in one channel, in levels: beyond it the eye sees a tint."""
DETAIL_LIMIT: Final = 12.0
"""Largest mean difference between the source and the result shrunk back, in levels."""
POINT_LIMIT: Final = 10.0
"""Most that the 1st and 99th percentile of brightness may move, in levels."""
SCORE_TOLERANCE: Final = 0.02
"""An overall score this much below the source's still counts as no worse."""
_ALIVE: Final = 6.0
"""Standard deviation of a source cell from which its counterpart must not be constant."""


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
    was, now = (np.percentile(picture.luma(), [1, 99]) for picture in (source, shrunk))
    moved = float(np.abs(was - now).max())
    return _judge("white_and_black", moved, POINT_LIMIT, f"black or white moved by {moved:.0f} levels")


def _check_dead_cells(source: Picture, enhanced: Picture) -> Check:
    """Cells that are constant or black in the result although the source has something there."""
    factor = enhanced.width / source.width
    cell = max(1, int(CELL * factor))
    alive = _cell_deviation(source.luma(), CELL) > _ALIVE
    deviation = _cell_deviation(enhanced.luma(), cell)
    rows, columns = min(alive.shape[0], deviation.shape[0]), min(alive.shape[1], deviation.shape[1])
    dead = alive[:rows, :columns] & (deviation[:rows, :columns] < 0.25)
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
    """The result at the size of the source, by area."""
    if enhanced.size == size:
        return Picture(enhanced.pixels)
    pixels = enhanced.pixels
    plane = pixels[:, :, 0] if enhanced.is_gray else pixels
    shrunk = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX))
    return Picture(shrunk.reshape(size[1], size[0], pixels.shape[2]))


def _cell_means(picture: Picture) -> Floats:
    """Mean colour of each cell, rows x columns x channels; a ragged edge is a cell of its own."""
    height, width = picture.height, picture.width
    tops, lefts = np.arange(0, height, CELL), np.arange(0, width, CELL)
    sums = np.add.reduceat(np.add.reduceat(picture.pixels, tops, axis=0, dtype=np.uint32), lefts, axis=1)
    tall, wide = np.diff(np.append(tops, height)), np.diff(np.append(lefts, width))
    return np.asarray(sums / (tall[:, None] * wide[None, :])[:, :, None], dtype=np.float32)


def _cell_deviation(luma: Pixels, cell: int) -> Floats:
    """Standard deviation of brightness in each whole cell."""
    rows, columns = luma.shape[0] // cell, luma.shape[1] // cell
    deviation = np.zeros((rows, columns), dtype=np.float32)
    for row in range(rows):
        band = luma[row * cell : (row + 1) * cell, : columns * cell].reshape(cell, columns, cell)
        deviation[row] = band.std(axis=(0, 2), dtype=np.float32)
    return deviation
