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
    """A gray page stays gray."""
    tinted = source.is_gray and not result.is_gray
    return judged("gray", float(tinted), 0, "a gray page came back in colour")


def alpha(source: Picture, result: Picture) -> Check:
    """Transparency is neither lost nor invented nor moved."""
    if source.alpha is None or result.alpha is None:
        lost = (source.alpha is None) != (result.alpha is None)
        return judged(
            "alpha", 255.0 * lost, OPACITY_LIMIT, "the transparency of the page was lost or invented"
        )
    was, now = cells(source.alpha, _CELL), None
    now = cells(result.alpha, round(_CELL * result.width / source.width))
    if was.shape != now.shape:
        return judged("alpha", 255.0, OPACITY_LIMIT, "the transparency has another shape")
    moved = float(np.abs(was - now).max())
    return judged("alpha", moved, OPACITY_LIMIT, f"the opacity of a region changed by {moved / 2.55:.0f} %")
