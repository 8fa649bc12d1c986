"""What kind of picture a page is: colour, gray, line art, screentone, or like a photograph.

A first set of plain rules over a grid of windows; the plan decides by them which steps a page needs.
"""

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from panelworks.frozen import Frozen
from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import Picture
from panelworks.quality.dots import dotted_share

Kind = Literal["colour", "gray", "line_art", "screentone", "photograph"]
_COLOURED: Final = 14.0
"""Spread of a pixel's channels, in levels, beyond the page's own tint, that is seen as colour."""
_COLOUR_SHARE: Final = 0.01
_LINES: Final = 0.88
"""Share of line art that is all but black or white."""
_DOTS_SHARE: Final = 0.12
"""Share of windows with dots from which a page is screened."""
_FLAT_SHARE: Final = 0.12
"""Share of pixels equal to their neighbours, below which a colour page is no flat drawing."""


class Content(Frozen):
    """What a picture shows, as far as it matters to how it is treated."""

    kind: Kind
    colour: float
    """Share of pixels that are coloured beyond the page's tint."""
    dots: float
    """Share of windows with a regular pattern of dots: screentone or printed halftone."""
    flat: float
    """Share of pixels that equal their right neighbour."""

    @property
    def printed(self) -> bool:
        """Is it printed in colour, with halftone dots?"""
        return self.kind == "colour" and self.dots >= _DOTS_SHARE


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
        return "photograph" if flat < _FLAT_SHARE and dots < _DOTS_SHARE else "colour"
    if dots >= _DOTS_SHARE:
        return "screentone"
    extreme = float(((luma < 48) | (luma > 207)).mean())
    return "line_art" if extreme >= _LINES else "gray"


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
