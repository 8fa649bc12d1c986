"""Is it as large as it should be, still gray, still transparent where it was?"""

from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.domain.options import Region
from panelworks.domain.result import Check
from panelworks.pictures.picture import Picture
from panelworks.pictures.view import Pair, cells


def judged(name: str, value: float, limit: float, message: str, region: Region | None = None) -> Check:
    """A check that passes up to its limit. `message` is what to say when it does not; NaN never passes."""
    passed = bool(value <= limit)
    return Check(
        name=name,
        passed=passed,
        value=round(float(value), 4),
        limit=limit,
        message="ok" if passed else message,
        region=None if passed else region,
    )


def region_of(pair: Pair, shape: tuple[int, ...], row: int, column: int) -> Region:
    """The place of a cell in the source, where the page is divided into `shape` (rows, columns) cells."""
    high, wide = pair.height / shape[0] * pair.scale[1], pair.width / shape[1] * pair.scale[0]
    return Region(
        left=int(column * wide), top=int(row * high), width=max(1, round(wide)), height=max(1, round(high))
    )


def worst_of(values: npt.NDArray[np.floating]) -> tuple[float, int, int]:
    """The largest value of a grid, with its row and column."""
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return float(values[row, column]), int(row), int(column)


def place(region: Region) -> str:
    """A region in words."""
    return f"{region.width} x {region.height} pixels at {region.left},{region.top} of the source"


OPACITY_LIMIT: Final = 24.0
"""Most that the mean opacity of a cell of 16 pixels may move, of 255."""
_CELL: Final = 16


def size(result: Picture, expected: tuple[int, int]) -> Check:
    """Exactly the size that was planned."""
    wrong = abs(result.width - expected[0]) + abs(result.height - expected[1])
    said = f"the result is {result.width} x {result.height} instead of {expected[0]} x {expected[1]}"
    return judged("size", wrong, 0, said)


def gray(source: Picture, result: Picture) -> Check:
    """A gray page stays gray, and one in colour keeps it."""
    said = "a gray page came back in colour" if source.is_gray else "a page came back without its colour"
    return judged("gray", float(source.is_gray != result.is_gray), 0, said)


def alpha(source: Picture, result: Picture) -> Check:
    """Transparency is neither lost nor invented nor moved."""
    if source.alpha is None or result.alpha is None:
        lost = (source.alpha is None) != (result.alpha is None)
        return judged(
            "alpha", 255.0 * lost, OPACITY_LIMIT, "the transparency of the page was lost or invented"
        )
    was = cells(source.alpha, _CELL)
    now = cells(result.alpha, _CELL, was.shape)
    moved = float(np.abs(was - now).max())
    return judged("alpha", moved, OPACITY_LIMIT, f"the opacity of a region changed by {moved / 2.55:.0f} %")
