"""ThumbHash: what a picture looks like, in about 25 bytes (evanw.github.io/thumbhash, by Evan Wallace).

A page can show the hash, blurred, in place of a picture that is still loading. The hash has the first coefficients of a
discrete cosine transform of brightness, two colour differences and opacity, with 4 bits each.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.pictures.picture import Picture

MAX_SIDE_PIXELS: Final = 100
"""The format is defined for pictures up to this size."""
_LUMA_TERMS: Final = 7
"""Coefficients along the longer side; 5 of a picture with transparency."""
_LUMA_TERMS_WITH_ALPHA: Final = 5
_COLOUR_TERMS: Final = 3
_ALPHA_TERMS: Final = 5
Doubles = npt.NDArray[np.float64]


def average_colour(picture: Picture) -> tuple[int, int, int]:
    """The mean colour (red, green, blue) of the visible pixels, 0..255; white if none is visible."""
    colours, alpha = _planes(picture)
    if not alpha.any():
        return (255, 255, 255)
    red, green, blue = (_round(255 * value) for value in _mean_colour(colours, alpha))
    return (red, green, blue)


def thumbhash(picture: Picture) -> bytes:
    """The ThumbHash of a picture of at most `MAX_SIDE_PIXELS` a side."""
    if max(picture.size) > MAX_SIDE_PIXELS:
        raise ValueError(f"a picture of {picture.width} x {picture.height} is larger than {MAX_SIDE_PIXELS}")
    colours, alpha = _planes(picture)
    height, width = alpha.shape
    # Transparent pixels show the mean colour, so that they do not change the others.
    shown = _mean_colour(colours, alpha) * (1 - alpha[:, :, None]) + colours * alpha[:, :, None]
    red, green, blue = np.moveaxis(shown, 2, 0)
    has_alpha = bool(alpha.sum() < width * height)
    terms = _LUMA_TERMS_WITH_ALPHA if has_alpha else _LUMA_TERMS
    across = max(1, _round(terms * width / max(width, height)))
    down = max(1, _round(terms * height / max(width, height)))
    luma = _Channel((red + green + blue) / 3, max(3, across), max(3, down))
    yellow_blue = _Channel((red + green) / 2 - blue, _COLOUR_TERMS, _COLOUR_TERMS)
    red_green = _Channel(red - green, _COLOUR_TERMS, _COLOUR_TERMS)
    is_landscape = width > height
    head = (
        _round(63 * luma.mean)
        | _round(31.5 + 31.5 * yellow_blue.mean) << 6
        | _round(31.5 + 31.5 * red_green.mean) << 12
        | _round(31 * luma.scale) << 18
        | has_alpha << 23
    )
    tail = (
        (down if is_landscape else across)
        | _round(63 * yellow_blue.scale) << 3
        | _round(63 * red_green.scale) << 9
        | is_landscape << 15
    )
    channels = [luma, yellow_blue, red_green]
    data: bytes = head.to_bytes(3, "little") + tail.to_bytes(2, "little")
    if has_alpha:
        opacity = _Channel(alpha, _ALPHA_TERMS, _ALPHA_TERMS)
        data += bytes((_round(15 * opacity.mean) | _round(15 * opacity.scale) << 4,))
        channels.append(opacity)
    nibbles = [_round(15 * value) for channel in channels for value in channel.terms]
    nibbles += [0] * (len(nibbles) % 2)
    return data + bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))


def _planes(picture: Picture) -> tuple[Doubles, Doubles]:
    """Colours HxWx3 and opacity HxW, in [0, 1]."""
    colours = picture.rgb().astype(np.float64) / 255
    if picture.alpha is None:
        return colours, np.ones(colours.shape[:2])
    return colours, picture.alpha.astype(np.float64) / 255


def _mean_colour(colours: Doubles, alpha: Doubles) -> Doubles:
    weighted = (colours * alpha[:, :, None]).sum(axis=(0, 1))
    visible = alpha.sum()
    return np.asarray(weighted / visible if visible else weighted, dtype=np.float64)


class _Channel:
    """The first coefficients of the discrete cosine transform of one channel."""

    def __init__(self, plane: Doubles, across: int, down: int) -> None:
        """`across` and `down` are the numbers of coefficients along the sides of the HxW `plane`."""
        height, width = plane.shape
        rows, columns = _cosines(height, down), _cosines(width, across)
        transform = rows @ plane @ columns.T / (width * height)
        self.mean: Final = float(transform[0, 0])
        varying = [
            float(transform[y, x])
            for y in range(down)
            for x in range(math.ceil(across * (down - y) / down))  # the triangle of low frequencies
            if x or y
        ]
        self.scale: Final = max(map(abs, varying), default=0.0)
        self.terms: Final = [0.5 + 0.5 * value / self.scale if self.scale else value for value in varying]
        """In [0, 1], relative to the scale."""


def _cosines(length: int, terms: int) -> Doubles:
    """The first basis vectors, terms x length."""
    positions = (np.arange(length) + 0.5) * (math.pi / length)
    return np.asarray(np.cos(np.arange(terms)[:, None] * positions), dtype=np.float64)


def _round(value: float) -> int:
    """Round halves up, as the reference does."""
    return math.floor(value + 0.5)
