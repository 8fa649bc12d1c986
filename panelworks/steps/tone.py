"""Tone and colour by histograms: white paper, black ink, contrast and saturation."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.domain.cards import Action
from panelworks.domain.plan import Step
from panelworks.pictures.picture import Picture, Pixels, by_bands
from panelworks.steps.base import Work

_PAPER_SHARE: Final = 0.02
"""Share of a page that must be as light as paper before its colour is taken for the paper's."""
_PAPER_LEAST: Final = 175
"""Darkest paper, in levels: below it the page has none."""
_YELLOWED: Final = 95
"""Widest spread of the channels of paper that has yellowed, red strongest and blue weakest."""
_NEUTRAL: Final = 28
"""Widest spread of the channels of paper otherwise, and of ink: what is more coloured is drawn so."""
_INK_MOST: Final = 70
"""Lightest ink, in levels."""
_BAND: Final = 512
_CONTRAST: Final = 0.12
"""Steepness added in the middle of the scale at full strength."""
_SATURATION: Final = 0.15
"""Colour added at full strength, as a share."""


@dataclass(frozen=True)
class Points:
    """What of a page is white and black, in each channel, in levels."""

    white: tuple[float, ...]
    black: tuple[float, ...]


def measure(picture: Picture) -> Points:
    """The colour of paper and ink; 255 and 0 where a page shows none."""
    luma, channels = picture.luma(), picture.pixels.shape[2]
    histogram = np.bincount(luma.ravel(), minlength=256)
    total = luma.size
    light = np.cumsum(histogram[::-1])[::-1] >= _PAPER_SHARE * total
    lightest = int(np.flatnonzero(light)[-1])
    dark = np.cumsum(histogram) >= 0.005 * total
    darkest = int(np.flatnonzero(dark)[0])
    white, black = _mean_of(picture.pixels, luma >= lightest), _mean_of(picture.pixels, luma <= darkest)
    return Points(
        white if lightest >= _PAPER_LEAST and _is_paper(white) else (255.0,) * channels,
        black if darkest <= _INK_MOST and max(black) - min(black) <= _NEUTRAL else (0.0,) * channels,
    )


def corrected(picture: Picture, strength: float) -> Picture:
    """The page with white paper, black ink, more contrast and colour.

    White stays white and black stays black: both ends of the scale are fixed points. Gray stays gray.

    Args:
        picture: The page; alpha stays as it is.
        strength: 0 changes nothing, 1 corrects fully.
    """
    points = measure(picture)
    curves = [_curve(white, black, strength) for white, black in zip(points.white, points.black, strict=True)]

    def moved(band: Pixels) -> Pixels:
        pixels = np.stack([curve[band[:, :, channel]] for channel, curve in enumerate(curves)], axis=2)
        if not picture.is_gray:
            pixels = _more_colour(pixels, 1 + _SATURATION * strength)
        return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)

    return Picture(by_bands(picture.pixels, _BAND, 0, moved), picture.alpha)


def _is_paper(colour: tuple[float, ...]) -> bool:
    """Is this the colour of paper, white or yellowed, rather than of something drawn in a light colour?"""
    yellowed = list(colour) == sorted(colour, reverse=True)
    return max(colour) - min(colour) <= (_YELLOWED if yellowed else _NEUTRAL)


def _curve(white: float, black: float, strength: float) -> npt.NDArray[np.float32]:
    """What each of the 256 levels becomes."""
    level = np.arange(256, dtype=np.float32)
    stretched = np.clip((level - black) / max(1.0, white - black), 0, 1)
    # A cubic with fixed points at 0, 1/2 and 1; its slope in the middle is 1 + 2 * _CONTRAST.
    contrasted = stretched + _CONTRAST * 4 * stretched * (1 - stretched) * (stretched - 0.5) * 2
    curve: npt.NDArray[np.float32] = (1 - strength) * level + strength * 255 * np.clip(contrasted, 0, 1)
    return curve.astype(np.float32)


def _more_colour(pixels: npt.NDArray[np.float32], factor: float) -> npt.NDArray[np.float32]:
    """Colours moved away from gray, but never beyond the scale: the strongest channel bounds the rest."""
    gray = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    offset = pixels - gray[:, :, None]
    above, below = offset.max(axis=2), -offset.min(axis=2)
    room = np.minimum((255 - gray) / np.maximum(above, 1e-3), gray / np.maximum(below, 1e-3))
    scaled: npt.NDArray[np.float32] = (
        gray[:, :, None] + offset * np.clip(np.minimum(factor, room), 1, None)[:, :, None]
    )
    return scaled


def _mean_of(pixels: Pixels, mask: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    return tuple(float(value) for value in pixels[mask].mean(axis=0))


_COLOUR: Final[frozenset[Action]] = frozenset({"colour"})


class ToneProvider:
    """White balance, levels, contrast and saturation."""

    name: Final = "tone"
    methods: Final = {"levels": _COLOUR}
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        return corrected(picture, float(step.config.get("strength", 1.0)))
