"""What scorers look at: a page, or an even grid of windows of a large one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import Picture, Pixels

Floats = npt.NDArray[np.float32]

WHOLE: Final = 2_000_000
"""Up to this many pixels the whole picture is looked at, beyond it a grid of windows."""
WINDOW: Final = 480
"""Side of a window in pixels, a multiple of 8: a grid of JPEG blocks has the same phase in each."""
_WINDOWS: Final = 3
"""Windows a side of the grid."""


@dataclass(frozen=True)
class View:
    """A part of a page, as it looks on white paper."""

    luma: Floats
    """HxW brightness, 0..255."""
    colour: Pixels | None
    """HxWx3, sRGB; None on a gray page."""


def views_of(picture: Picture) -> Iterator[View]:
    """The whole of a small picture; nine windows, evenly spread, of one with more than two million pixels."""
    if picture.width * picture.height <= WHOLE:
        yield _view(picture)
        return
    for top in _starts(picture.height):
        for left in _starts(picture.width):
            yield _view(picture.region(left, top, min(WINDOW, picture.width), min(WINDOW, picture.height)))


def _view(picture: Picture) -> View:
    paper = on_paper(picture)
    return View(paper.luma().astype(np.float32), None if paper.is_gray else paper.pixels)


def _starts(side: int) -> list[int]:
    room = side - WINDOW
    if room <= 0:
        return [0]
    count = min(_WINDOWS, -(-side // WINDOW))
    if count == _WINDOWS < side // WINDOW // 4:
        count = min(12, side // WINDOW // 4)  # a strip is looked at along its whole length
    return sorted({round(room * index / max(1, count - 1)) // 8 * 8 for index in range(count)})
