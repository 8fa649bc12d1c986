"""Twenty kinds of damage that an enhancement can do, each in three strengths: weak, middle and strong.

They test the validator: `tests/panelworks/quality/test_damage.py` counts what is caught, and
`python -m benchmarks.damage` prints the tables of docs/explanation/quality.md.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.pictures import Picture, resize

Strength = Literal["weak", "middle", "strong"]
STRENGTHS: Final[tuple[Strength, ...]] = ("weak", "middle", "strong")
SEEN: Final = 1.0
"""Mean change of the damaged pixels, in levels, below which a damage is invisible: a mirrored blank, a tint of white."""

WALL: Final = 8.0
"""Standard deviation in levels up to which the calmest square of a page counts as a plain wall."""


@dataclass(frozen=True)
class Enhanced:
    """A page, its correct enhancement, and the enhancement of another page."""

    source: Picture
    result: Picture
    other: Picture
    seed: int

    @property
    def scale(self) -> int:
        return self.result.width // self.source.width

    @property
    def random(self) -> Random:
        return Random(self.seed)


Damage = Callable[[Enhanced, int], Picture | None]
"""Returns the damaged result for a strength of 0, 1 or 2; None where the damage has no effect on the page."""
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.integer[Any] | np.floating[Any]]


def _as_picture(page: Enhanced, pixels: npt.NDArray[np.generic]) -> Picture:
    rounded = np.clip(np.rint(pixels.astype(np.float32)), 0, 255).astype(np.uint8)
    return Picture(rounded.reshape(page.result.pixels.shape), page.result.alpha)


def contrast(values: Numbers) -> float:
    """The standard deviation of an (H, W) array."""
    return float(cv2.meanStdDev(values)[1][0, 0])


def _tile(page: Enhanced, strength: int, *, calm: bool = False) -> tuple[slice, slice]:
    """A square of 32, 64 or 128 source pixels: of 60 random ones, that with the highest or lowest contrast."""
    side = (32, 64, 128)[strength] * page.scale
    luma, random = page.result.luma().astype(np.float32), page.random
    places = []
    for _ in range(60):
        top = random.randrange(0, max(1, luma.shape[0] - side))
        left = random.randrange(0, max(1, luma.shape[1] - side))
        where = (slice(top, top + side), slice(left, left + side))
        places.append((contrast(luma[where]), where))
    return (min if calm else max)(places, key=lambda found: found[0])[1]


def black_tile(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.copy()
    pixels[_tile(page, strength)] = 0
    return _as_picture(page, pixels)


def _moved_tile(page: Enhanced, strength: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    rows, columns = _tile(page, strength)
    height = page.result.height
    side = rows.stop - rows.start
    top = rows.start + side if rows.stop + side <= height else max(0, rows.start - side)
    return (rows, columns), (slice(top, top + side), columns)


def repeated_tile(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.copy()
    here, there = _moved_tile(page, strength)
    pixels[there] = page.result.pixels[here]
    return _as_picture(page, pixels)


def swapped_tiles(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.copy()
    here, there = _moved_tile(page, strength)
    pixels[there], pixels[here] = page.result.pixels[here], page.result.pixels[there]
    return _as_picture(page, pixels)


def swapped_channels(page: Enhanced, strength: int) -> Picture | None:
    if page.result.is_gray:
        return None
    pixels = page.result.pixels.copy()
    where = (_tile(page, 1), _tile(page, 2), (slice(None), slice(None)))[strength]
    pixels[where] = pixels[where][:, :, ::-1]
    return _as_picture(page, pixels)


def tint(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.astype(np.float32)
    pixels[:, :, -1] -= (1.5, 3, 6)[strength]
    return _as_picture(page, pixels)


def shifted(page: Enhanced, strength: int) -> Picture:
    step = (1, 2, 4)[strength] * page.scale // 2
    return _as_picture(page, np.roll(page.result.pixels, step, axis=1))


def cropped(page: Enhanced, strength: int) -> Picture:
    lost = (2, 4, 12)[strength] * page.scale
    inner = page.result.region(lost, lost, page.result.width - 2 * lost, page.result.height - 2 * lost)
    return resize(inner, page.result.size)


def mirrored(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.copy()
    where = (_tile(page, 1), _tile(page, 2), (slice(None), slice(None)))[strength]
    pixels[where] = pixels[where][:, ::-1]
    return _as_picture(page, pixels)


def another_page(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.copy()
    other = resize(page.other, page.result.size)
    replacement = other.luma()[:, :, None] if page.result.is_gray else other.rgb()
    where = (_tile(page, 1), _tile(page, 2), (slice(None), slice(None)))[strength]
    pixels[where] = replacement[where]
    return _as_picture(page, pixels)


def over_smoothed(page: Enhanced, strength: int) -> Picture:
    sigma = (0.6, 1.2, 2.4)[strength] * page.scale / 2 * 1.5
    return _as_picture(page, cv2.GaussianBlur(page.result.pixels, (0, 0), sigma))


def over_sharpened(page: Enhanced, strength: int) -> Picture | None:
    """Halos around lines. On a page of pure black and white they are invisible."""
    luma = page.result.luma()
    if float(((luma > 30) & (luma < 225)).mean()) < 0.25:
        return None
    pixels = page.result.pixels.astype(np.float32)
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.5 * page.scale).reshape(pixels.shape)
    return _as_picture(page, pixels + (0.4, 1.0, 2.0)[strength] * (pixels - soft))


def checkerboard(page: Enhanced, strength: int) -> Picture:
    rows, columns = np.indices(page.result.pixels.shape[:2])
    board = np.where((rows + columns) % 2, 1.0, -1.0)[:, :, None]
    return _as_picture(page, page.result.pixels + board * (1, 3, 6)[strength])


def hallucinated_texture(page: Enhanced, strength: int) -> Picture | None:
    rows, columns = _tile(page, 1, calm=True)
    if float(page.result.luma()[rows, columns].std()) > WALL:
        return None
    side = rows.stop - rows.start
    noise = np.random.default_rng(page.seed).normal(0, 1, (side, side)).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 0.8 * page.scale)
    pixels = page.result.pixels.astype(np.float32)
    pixels[rows, columns] += grain[:, :, None] * ((3, 7, 14)[strength] / float(grain.std()))
    return _as_picture(page, pixels)


def posterised(page: Enhanced, strength: int) -> Picture:
    step = 255 / ((48, 24, 10)[strength] - 1)
    return _as_picture(page, np.rint(page.result.pixels / step) * step)


def lost_alpha(page: Enhanced, strength: int) -> Picture | None:
    """The page fades to transparent at its right side. The result is opaque in a region, in half or everywhere."""
    result = page.result
    if result.alpha is None:
        return None
    if strength == 2:
        return Picture(result.pixels)
    alpha = result.alpha.copy()
    alpha[(slice(result.height // 2, None), _tile(page, 1)[0])[1 - strength]] = 255
    return Picture(result.pixels, alpha)


def inverted(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.copy()
    where = (_tile(page, 0), _tile(page, 2), (slice(None), slice(None)))[strength]
    pixels[where] = 255 - pixels[where]
    return _as_picture(page, pixels)


def gamma_slip(page: Enhanced, strength: int) -> Picture:
    return _as_picture(page, 255 * (page.result.pixels / 255.0) ** (1.04, 1.1, 1.25)[strength])


def dissolved_lettering(page: Enhanced, strength: int) -> Picture | None:
    """Blur the thin strokes of the region that has most of them into their surroundings."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (4 * page.scale + 1, 4 * page.scale + 1))
    luma = page.result.luma()
    inked = cv2.morphologyEx(luma, cv2.MORPH_BLACKHAT, kernel) > 60
    side = 64 * page.scale
    ink = cv2.boxFilter(inked.astype(np.float32), -1, (side, side), anchor=(0, 0))[:-side, :-side]
    if float(ink.max()) < 0.03:
        return None
    top, left = (int(index) for index in np.unravel_index(int(ink.argmax()), ink.shape))
    rows, columns = slice(top, top + side), slice(left, left + side)
    pixels = page.result.pixels.astype(np.float32)
    part = pixels[rows, columns]
    blurred = cv2.medianBlur(page.result.pixels[rows, columns], 8 * page.scale - 1).reshape(part.shape)
    pixels[rows, columns] = part + (blurred - part) * (0.5, 0.8, 1.0)[strength]
    return _as_picture(page, pixels)


def seam(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.astype(np.float32)
    sign = -1 if pixels.mean() > 127 else 1
    pixels[:, page.result.width // 2 + page.random.randrange(-30, 30) :] += sign * (1, 2, 4)[strength]
    return _as_picture(page, pixels)


def truncated_bottom(page: Enhanced, strength: int) -> Picture:
    pixels = page.result.pixels.copy()
    pixels[-(8, 32, 128)[strength] * page.scale // 2 :] = 128
    return _as_picture(page, pixels)


KINDS: Final[tuple[Damage, ...]] = (
    black_tile,
    repeated_tile,
    swapped_tiles,
    swapped_channels,
    tint,
    shifted,
    cropped,
    mirrored,
    another_page,
    over_smoothed,
    over_sharpened,
    checkerboard,
    hallucinated_texture,
    posterised,
    lost_alpha,
    inverted,
    gamma_slip,
    dissolved_lettering,
    seam,
    truncated_bottom,
)


def largest_channel(pixels: Numbers) -> Numbers:
    """The largest value of each pixel, (H, W). `max` of numpy takes ten times as long along a short axis."""
    return functools.reduce(np.maximum, cv2.split(pixels))


def damaged(page: Enhanced, damage: Damage, strength: int) -> Picture | None:
    """The damaged result; None where the damage is invisible."""
    result = damage(page, strength)
    if result is None or (result.alpha is None) != (page.result.alpha is None):
        return result
    if result.alpha is not None and (result.alpha != page.result.alpha).any():
        return result
    change = largest_channel(cv2.absdiff(result.pixels, page.result.pixels))
    touched = change > 0
    if touched.mean() < 1e-4:
        return None
    where = cv2.boundingRect(touched.astype(np.uint8))
    inside = change[where[1] : where[1] + where[3], where[0] : where[0] + where[2]]
    return result if float(inside.mean()) >= SEEN else None


def fading(picture: Picture) -> Picture:
    """The picture with a background that fades out to the right."""
    row = np.linspace(255, 0, picture.width).astype(np.uint8)
    return Picture(picture.pixels, np.repeat(row[None, :], picture.height, axis=0))


def open_picture(path: str) -> Picture:
    """A picture file on white paper, gray where it is gray."""
    with Image.open(path) as image:
        layers = image.convert("RGBA")
    pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB"))
    gray = bool((pixels == pixels[:, :, :1]).all())
    return Picture(np.ascontiguousarray(pixels[:, :, :1]) if gray else pixels)
