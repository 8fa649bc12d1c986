"""Correcting tone and colour by histograms: white paper, black ink, contrast and saturation."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.domain.cards import Action
from panelworks.domain.options import TonePoints
from panelworks.domain.plan import Step
from panelworks.pictures.picture import Picture, Pixels, map_bands
from panelworks.pictures.view import find_paper_level
from panelworks.steps.base import Work

_MAX_PAPER_SPREAD_LEVELS: Final = 24
"""Maximum distance of paper from the lightest pixels."""
_PEAK_LEVELS: Final = 3
"""Levels beside the most frequent one that count as paper, too."""
_MIN_PEAK_SHARE: Final = 0.1
"""Minimum share of pixels with the level of the paper."""
_MAX_YELLOWED_SPREAD: Final = 95
"""Maximum spread of the channels of yellowed paper: red is strongest and blue weakest."""
_MAX_NEUTRAL_SPREAD: Final = 28
"""Maximum spread of the channels of other paper and of ink. More coloured areas are drawn in colour."""
_MAX_INK_LEVEL: Final = 70
"""Lightest ink."""
_WHITE_PAPER_LEVEL: Final = 244
"""Minimum level of the weakest channel of paper that needs no correction."""
_MAX_SHARED_DISTANCE_LEVELS: Final = 32
"""Maximum distance of a page's paper or ink from that of its book, for it to be treated like the book."""
_LUMA_WEIGHTS: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_BAND_ROWS: Final = 512
_CONTRAST: Final = 0.12
"""Slope added in the middle of the scale at full strength."""
_SATURATION: Final = 0.15
"""Relative gain of saturation at full strength."""


def measure_tone_points(picture: Picture) -> TonePoints:
    """Measure the colour of paper and ink; 255 and 0 if a page has none."""
    luma, channels = picture.luma(), picture.pixels.shape[2]
    histogram = np.bincount(luma.ravel(), minlength=256)
    total = luma.size
    lightest = find_paper_level(histogram)
    dark = np.cumsum(histogram) >= 0.005 * total
    darkest = int(np.flatnonzero(dark)[0])
    white: tuple[float, ...] = (255.0,) * channels
    if lightest is not None:
        peak = _paper_peak(histogram, lightest)
        paper = luma >= lightest if peak is None else np.abs(luma.astype(np.int16) - peak) <= _PEAK_LEVELS
        white = _mean_of(picture.pixels, paper)
    black = _mean_of(picture.pixels, luma <= darkest)
    return TonePoints(
        white=white if _is_paper(white) else (255.0,) * channels,
        black=black
        if darkest <= _MAX_INK_LEVEL and max(black) - min(black) <= _MAX_NEUTRAL_SPREAD
        else (0.0,) * channels,
    )


def _paper_peak(histogram: npt.NDArray[np.int64], lightest: int) -> int | None:
    """The most frequent level near the lightest ones, if it is that of an area: paper, not highlights and dust on it."""
    start = max(0, lightest - _MAX_PAPER_SPREAD_LEVELS)
    peak = start + int(np.argmax(histogram[start : lightest + 1]))
    area = histogram[max(0, peak - _PEAK_LEVELS) : peak + _PEAK_LEVELS + 1].sum()
    return peak if area >= _MIN_PEAK_SHARE * histogram.sum() else None


def correct_tones(picture: Picture, strength: float) -> Picture:
    """Make paper white and ink black, and increase contrast and saturation.

    White stays white and black stays black: both ends of the scale are fixed points. Gray stays gray.

    Args:
        picture: The page. Alpha is unchanged.
        strength: From 0 (no change) to 1 (full correction).
    """
    points = measure_tone_points(picture)
    return _correct(picture, points, strength, contrast=_CONTRAST, saturation=_SATURATION)


def correct_levels(picture: Picture, strength: float, shared: TonePoints | None = None) -> Picture:
    """Make yellowed or faded paper white and its ink black; contrast and saturation are unchanged.

    A page without paper, or on white paper, is not changed.

    Args:
        picture: The page. Alpha is unchanged.
        strength: From 0 (no change) to 1 (white paper and black ink).
        shared: Points of the book. They are used where the page's own ones are similar, so that pages look alike.
    """
    return correct_paper(picture, strength, page_points(picture, shared))


def page_points(picture: Picture, shared: TonePoints | None) -> TonePoints:
    """The paper and ink that `correct_levels` uses for a page."""
    points = measure_tone_points(picture)
    if shared is None:
        return points
    return TonePoints(white=_nearby(points.white, shared.white), black=_nearby(points.black, shared.black))


def correct_paper(picture: Picture, strength: float, points: TonePoints) -> Picture:
    """`correct_levels` with known paper and ink, of this page or of another frame of an animation."""
    if min(points.white) >= _WHITE_PAPER_LEVEL:
        return picture
    return _correct(picture, points, strength, contrast=0, saturation=0)


def _nearby(own: tuple[float, ...], shared: tuple[float, ...]) -> tuple[float, ...]:
    """The shared level in each channel if it is similar to the page's own one in all of them; otherwise its own."""
    if len(shared) != len(own):
        shared = (_LUMA_WEIGHTS @ np.resize(shared, 3),) * len(own)
    similar = max(abs(a - b) for a, b in zip(own, shared, strict=True)) <= _MAX_SHARED_DISTANCE_LEVELS
    return tuple(map(float, shared)) if similar else own


def _in_channels(level: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A level of gray or colour for a picture with this number of channels."""
    if len(level) == channels:
        return level
    return (float(_LUMA_WEIGHTS @ np.resize(level, 3)),) * channels


def share_tone_points(pages: Sequence[TonePoints]) -> TonePoints | None:
    """The median paper and ink of pages, in three channels; None if no page has paper that is darker than white."""
    white, black = (
        np.array([np.resize(level, 3) for level in levels])
        for levels in ([page.white for page in pages], [page.black for page in pages])
    )
    papers = white[white.min(axis=1) < 255] if len(pages) else white
    if not len(papers):
        return None
    return TonePoints(
        white=tuple(np.median(papers, axis=0).round(1).tolist()),
        black=tuple(np.median(black, axis=0).round(1).tolist()),
    )


def remove_colour(picture: Picture) -> Picture:
    """The brightness of a page as a gray picture. Alpha is unchanged."""
    return picture if picture.is_gray else Picture(picture.luma()[:, :, None], picture.alpha)


def _correct(
    picture: Picture, points: TonePoints, strength: float, *, contrast: float, saturation: float
) -> Picture:
    channels = picture.pixels.shape[2]
    curves = [
        _curve(white, black, strength, contrast)
        for white, black in zip(
            _in_channels(points.white, channels), _in_channels(points.black, channels), strict=True
        )
    ]

    def correct_band(band: Pixels) -> Pixels:
        pixels = np.stack([curve[band[:, :, channel]] for channel, curve in enumerate(curves)], axis=2)
        if not picture.is_gray and saturation > 0:
            pixels = _saturate(pixels, 1 + saturation * strength)
        return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)

    return Picture(map_bands(picture.pixels, _BAND_ROWS, 0, correct_band), picture.alpha)


def _is_paper(colour: tuple[float, ...]) -> bool:
    """Whether this is the colour of white or yellowed paper, rather than of an area drawn in a light colour."""
    yellowed = list(colour) == sorted(colour, reverse=True)
    return max(colour) - min(colour) <= (_MAX_YELLOWED_SPREAD if yellowed else _MAX_NEUTRAL_SPREAD)


def _curve(white: float, black: float, strength: float, contrast: float) -> npt.NDArray[np.float32]:
    """New value of each of the 256 levels."""
    level = np.arange(256, dtype=np.float32)
    stretched = np.clip((level - black) / max(1.0, white - black), 0, 1)
    # A cubic with fixed points at 0, 1/2 and 1; its slope in the middle is 1 + 2 * contrast.
    contrasted = stretched + contrast * 4 * stretched * (1 - stretched) * (stretched - 0.5) * 2
    curve: npt.NDArray[np.float32] = (1 - strength) * level + strength * 255 * np.clip(contrasted, 0, 1)
    return curve.astype(np.float32)


def _saturate(pixels: npt.NDArray[np.float32], factor: float) -> npt.NDArray[np.float32]:
    """Move colours away from gray. The strongest channel limits the gain, so that no channel leaves the scale."""
    gray = pixels @ _LUMA_WEIGHTS
    offset = pixels - gray[:, :, None]
    above, below = offset.max(axis=2), -offset.min(axis=2)
    room = np.minimum((255 - gray) / np.maximum(above, 1e-3), gray / np.maximum(below, 1e-3))
    scaled: npt.NDArray[np.float32] = (
        gray[:, :, None] + offset * np.clip(np.minimum(factor, room), 1, None)[:, :, None]
    )
    return scaled


def _mean_of(pixels: Pixels, mask: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    return tuple(float(value) for value in pixels[mask].mean(axis=0))


class ToneProvider:
    """Removes colour; corrects white balance, levels, contrast and saturation."""

    name: Final = "tone"
    methods: Final[dict[str, frozenset[Action]]] = {
        "luma": frozenset({"gray"}),
        "paper-and-ink": frozenset({"levels"}),
        "levels": frozenset({"colour"}),
    }
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        if step.action == "gray":
            return remove_colour(picture)
        strength = float(step.config.get("strength", 1.0))
        if step.action == "levels":
            given = step.config.get("points")
            shared = TonePoints.model_validate(given) if given else None
            return correct_paper(
                picture, strength, work.measure("points", lambda: page_points(picture, shared))
            )
        points = work.measure("points", lambda: measure_tone_points(picture))
        return _correct(picture, points, strength, contrast=_CONTRAST, saturation=_SATURATION)
