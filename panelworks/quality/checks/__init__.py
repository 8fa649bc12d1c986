"""The checks of validation: each compares an enhancement with its source.

This module has the checks of size, grayness and transparency, and the functions that all checks share.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.domain.options import Region
from panelworks.domain.result import Check
from panelworks.pictures.picture import Picture
from panelworks.pictures.view import Pair, cell_means


def make_check(name: str, value: float, limit: float, message: str, region: Region | None = None) -> Check:
    """Make a check that passes up to its limit. `message` is its message if it fails. NaN never passes."""
    passed = bool(value <= limit)
    return Check(
        name=name,
        passed=passed,
        value=round(float(value), 4),
        limit=limit,
        message="ok" if passed else message,
        region=None if passed else region,
    )


def region_of_cell(pair: Pair, shape: tuple[int, ...], row: int, column: int) -> Region:
    """Region of a cell in the source, if the page is divided into `shape` (rows, columns) cells."""
    high, wide = pair.height / shape[0] * pair.scale[1], pair.width / shape[1] * pair.scale[0]
    return Region(
        left=int(column * wide), top=int(row * high), width=max(1, round(wide)), height=max(1, round(high))
    )


def find_worst(values: npt.NDArray[np.floating]) -> tuple[float, int, int]:
    """Find the largest value of a grid with its row and column."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return float(values[row, column]), int(row), int(column)


def describe_region(region: Region) -> str:
    """Describe a region in words."""
    return f"{region.width} x {region.height} pixels at {region.left},{region.top} of the source"


OPACITY_LIMIT: Final = 24.0
"""Maximum change of the mean opacity of a cell of 16 pixels, of 255."""
_CELL_PIXELS: Final = 16


def check_size(result: Picture, expected: tuple[int, int]) -> Check:
    """Check that the size is the planned one."""
    wrong = abs(result.width - expected[0]) + abs(result.height - expected[1])
    message = f"the result is {result.width} x {result.height} instead of {expected[0]} x {expected[1]}"
    return make_check("size", wrong, 0, message)


def check_gray(source: Picture, result: Picture) -> Check:
    """Check that a gray page stays gray and a page in colour keeps its colour."""
    message = "the gray page became coloured" if source.is_gray else "the page lost its colour"
    return make_check("gray", float(source.is_gray != result.is_gray), 0, message)


def check_alpha(source: Picture, result: Picture) -> Check:
    """Check that transparency is not lost, invented or moved."""
    if source.alpha is None or result.alpha is None:
        lost = (source.alpha is None) != (result.alpha is None)
        return make_check(
            "alpha", 255.0 * lost, OPACITY_LIMIT, "the transparency of the page was lost or invented"
        )
    before = cell_means(source.alpha, _CELL_PIXELS)
    after = cell_means(result.alpha, _CELL_PIXELS, before.shape)
    moved = float(np.abs(before - after).max())
    return make_check(
        "alpha", moved, OPACITY_LIMIT, f"the opacity of a region changed by {moved / 2.55:.0f} %"
    )
