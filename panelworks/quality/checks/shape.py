"""Is it as large as it should be, still gray, still transparent where it was?"""

from typing import Final

import numpy as np

from panelworks.pictures.picture import Picture
from panelworks.quality.checks.verdicts import judged
from panelworks.quality.pair import cells
from panelworks.records import Check

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
