"""What kind of picture a page is: colour, gray, line art, screentone, or like a photograph.

A first set of plain rules over a grid of windows; the plan decides by them which steps a page needs.
"""

from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from panelworks.frozen import Frozen
from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import Picture

Kind = Literal["colour", "gray", "line_art", "screentone", "photograph"]
Floats = npt.NDArray[np.float32]

_SIDE: Final = 64
_MOST_WINDOWS: Final = 144
_COLOURED: Final = 14.0
"""Spread of a pixel's channels, in levels, beyond the page's own tint, that is seen as colour."""
_COLOUR_SHARE: Final = 0.01
_LINES: Final = 0.88
"""Share of line art that is all but black or white."""
_PEAK: Final = 30.0
"""How far the strongest frequency of a window of dots stands out of the median of its band."""
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
    windows = list(_windows(luma))
    dots = sum(_dotted(window) for window in windows) / max(1, len(windows))
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


def _windows(luma: npt.NDArray[np.uint8]) -> Iterator[Floats]:
    """An even grid of windows over the page."""
    height, width = luma.shape
    rows, columns = height // _SIDE, width // _SIDE
    every = max(1, round((rows * columns / _MOST_WINDOWS) ** 0.5))
    for row in range(0, rows, every):
        for column in range(0, columns, every):
            top, left = row * _SIDE, column * _SIDE
            yield luma[top : top + _SIDE, left : left + _SIDE].astype(np.float32)


def _dotted(window: Floats) -> bool:
    """Does one frequency, neither a slope nor a single line, stand far out of the others?"""
    if float(window.std()) < 4:
        return False
    taper = np.hanning(_SIDE).astype(np.float32)
    spectrum = np.abs(np.fft.fft2((window - window.mean()) * taper[:, None] * taper[None, :]))
    across, down = np.meshgrid(np.fft.fftfreq(_SIDE), np.fft.fftfreq(_SIDE))
    radius = np.hypot(across, down)
    band = (radius > 0.1) & (radius < 0.5) & (down >= 0)
    values = spectrum[band]
    strongest = values >= np.sort(values)[-6]
    angles = np.arctan2(down[band][strongest], across[band][strongest])
    # A line has all its energy along one direction, dots along two or more.
    directions = np.abs(np.exp(2j * angles).mean())
    return bool(values.max() > _PEAK * np.median(values) and directions < 0.8)
