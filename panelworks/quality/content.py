"""What kind of picture a page is: colour, gray, line art, screentone, or like a photograph.

Plain rules; the plan decides by them which steps a page needs. How often they are right is in docs/explanation/quality.md.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.domain.quality import DOTS_SHARE, Content, Kind
from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import Picture
from panelworks.quality.edges import rises
from panelworks.quality.patterns import dotted_share

_COLOURED: Final = 14.0
"""Spread of a pixel's channels, in levels, beyond the page's own tint, that is seen as colour."""
_COLOUR_SHARE: Final = 0.01
_INK: Final = 0.2
"""Part of the range between ink and paper that still counts as either."""
_LINES: Final = 0.88
"""Share of line art that is all but ink or paper."""
_PHOTOGRAPHED_FLAT: Final = 0.25
"""Share of pixels equal to their neighbours, below which a picture may be a photograph."""
_PHOTOGRAPHED_PAPER: Final = 0.08
"""Share of bright pixels, below which it may be one: there is no paper."""
_PHOTOGRAPHED_RISE: Final = 0.62
"""Median share of an edge that its steepest step takes, below which it may be one: nothing is inked."""
_LOOKED_AT: Final = 1024
"""Side of the square in the middle whose edges are looked at."""


def content_of(picture: Picture) -> Content:
    """What a picture shows."""
    paper = on_paper(picture)
    luma = paper.luma()
    colour = _colour_share(paper)
    dots = dotted_share(luma.astype(np.float32))
    flat = float((np.diff(luma.astype(np.int16), axis=1) == 0).mean()) if luma.shape[1] > 1 else 1.0
    return Content(
        kind=_kind(luma, colour, dots, flat),
        colour=round(colour, 4),
        dots=round(dots, 4),
        flat=round(flat, 4),
    )


def _kind(luma: npt.NDArray[np.uint8], colour: float, dots: float, flat: float) -> Kind:
    if colour >= _COLOUR_SHARE:
        return "photograph" if dots < DOTS_SHARE and _photographed(luma, flat) else "colour"
    if dots >= DOTS_SHARE:
        return "screentone"
    black, white = np.percentile(luma[::2, ::2], (1, 90))
    margin = max(10.0, _INK * (float(white) - float(black)))
    extreme = float(((luma < black + margin) | (luma > white - margin)).mean())
    return "line_art" if extreme >= _LINES else "gray"


def _photographed(luma: npt.NDArray[np.uint8], flat: float) -> bool:
    """No flat colour, no paper, no inked edge."""
    if flat >= _PHOTOGRAPHED_FLAT or float((luma > 215).mean()) >= _PHOTOGRAPHED_PAPER:
        return False
    top, left = (max(0, (side - _LOOKED_AT) // 2) for side in luma.shape)
    middle = luma[top : top + _LOOKED_AT, left : left + _LOOKED_AT].astype(np.float32)
    return rises(middle)[0]["rise_50"] < _PHOTOGRAPHED_RISE


def _colour_share(picture: Picture) -> float:
    """Share of coloured pixels; a scanner's tint, the same all over the page, is none."""
    if picture.is_gray:
        return 0.0
    thinned = picture.pixels[:: max(1, picture.height // 800), :: max(1, picture.width // 800)].astype(
        np.int16
    )
    opponents = np.stack([thinned[:, :, 0] - thinned[:, :, 1], thinned[:, :, 1] - thinned[:, :, 2]])
    tint = np.median(opponents, axis=(1, 2), keepdims=True)
    return float((np.abs(opponents - tint).max(axis=0) > _COLOURED).mean())
