"""Making a check of what was measured."""

import numpy as np
import numpy.typing as npt

from panelworks.options import Region
from panelworks.quality.pair import Pair
from panelworks.records import Check


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
