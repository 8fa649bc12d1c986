"""Ladders: a clean page at increasing severities of each kind of degradation of comic pages.

A rung is a severity from 1, hardly visible, to 6, ruined. The wanted score of a rung is a compromise of two aims: a
publisher's limit (JPEG q40, a blur of 1.5 px) has a score below 0.8, and different degradations are ordered as by MS-SSIM
(a third of the score; averaged over pages, it tolerates banding and JPEG, but not halftone). The quality head is fitted
on ladders and evaluated on ladders of other works.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]
Component = Literal["sharpness", "noise", "compression", "banding", "halftone"]
COMPONENTS: Final[tuple[Component, ...]] = ("sharpness", "noise", "compression", "banding", "halftone")
RUNG_COUNT: Final = 6
CLEAN_SCORE: Final = 0.985
"""Wanted score of each component of a clean page: the product of five is 0.93."""


@dataclass(frozen=True)
class Distortion:
    """A kind of degradation."""

    name: str
    component: Component
    severities: tuple[float, ...]
    """Parameter of each rung."""
    scores: tuple[float, ...]
    """Wanted score of the component on each rung."""
    apply: Callable[[Pixels, float, Random], Pixels]


def _encode_jpeg(pixels: Pixels, quality: float, random: Random) -> Pixels:
    return _encode(pixels, "JPEG", quality=int(quality), subsampling=2)


def _encode_webp(pixels: Pixels, quality: float, random: Random) -> Pixels:
    return _encode(pixels, "WEBP", quality=int(quality), method=2)


def _encode(pixels: Pixels, kind: str, **options: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _blur(pixels: Pixels, sigma: float, random: Random) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


def _add_noise(pixels: Pixels, deviation: float, random: Random) -> Pixels:
    depth = random.choice((1, 3))
    generator = np.random.default_rng(random.getrandbits(32))
    grain = generator.normal(0, deviation, (*pixels.shape[:2], depth))
    return np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8)


def _shrink_and_enlarge(pixels: Pixels, factor: float, random: Random) -> Pixels:
    image = Image.fromarray(pixels)
    small = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    return np.asarray(
        image.resize(small, Image.Resampling.LANCZOS).resize(image.size, Image.Resampling.BILINEAR)
    )


def _posterise(pixels: Pixels, levels: float, random: Random) -> Pixels:
    step = 255 / (levels - 1)
    return np.clip(np.rint(np.rint(pixels / step) * step), 0, 255).astype(np.uint8)


def _print_halftone(pixels: Pixels, strength: float, random: Random) -> Pixels:
    """Print with four inks through screens at usual angles, and mix the result with the page by `strength`."""
    pitch = random.uniform(4.0, 7.0)
    inks = 1 - pixels.astype(np.float32) / 255
    black = inks.min(axis=2, keepdims=True)
    colours = np.concatenate([inks - black, black], axis=2)
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]].astype(np.float32)
    printed = np.empty_like(colours)
    for index, degrees in enumerate((15, 75, 0, 45)):
        angle = np.deg2rad(degrees)
        along = (columns * np.cos(angle) + rows * np.sin(angle)) * (2 * np.pi / pitch)
        across = (rows * np.cos(angle) - columns * np.sin(angle)) * (2 * np.pi / pitch)
        threshold = 0.5 + (np.cos(along) + np.cos(across)) / 4
        printed[:, :, index] = np.clip((colours[:, :, index] - threshold) * 6 + 0.5, 0, 1)
    smooth = cv2.GaussianBlur(printed, (0, 0), 0.6)
    paper = 1 - np.clip(smooth[:, :, :3] + smooth[:, :, 3:], 0, 1)
    mixed = pixels * (1 - strength) + paper * 255 * strength
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)


DISTORTIONS: Final[dict[str, Distortion]] = {
    one.name: one
    for one in (
        Distortion(
            "jpeg",
            "compression",
            (90, 75, 60, 40, 25, 12),
            (0.94, 0.87, 0.79, 0.69, 0.56, 0.39),
            _encode_jpeg,
        ),
        Distortion(
            "webp", "compression", (90, 75, 50, 30, 15, 5), (0.94, 0.87, 0.79, 0.71, 0.61, 0.47), _encode_webp
        ),
        Distortion(
            "blur",
            "sharpness",
            (0.6, 1.0, 1.5, 2.0, 3.0, 4.5),
            (0.89, 0.78, 0.64, 0.52, 0.39, 0.26),
            _blur,
        ),
        Distortion(
            "down-up",
            "sharpness",
            (1.25, 1.5, 2.0, 3.0, 4.0, 6.0),
            (0.88, 0.8, 0.68, 0.54, 0.41, 0.28),
            _shrink_and_enlarge,
        ),
        Distortion("noise", "noise", (2, 4, 7, 12, 20, 32), (0.94, 0.86, 0.75, 0.61, 0.46, 0.29), _add_noise),
        Distortion(
            "banding",
            "banding",
            (96, 64, 40, 28, 20, 14),
            (0.96, 0.92, 0.86, 0.78, 0.68, 0.56),
            _posterise,
        ),
        Distortion(
            "halftone",
            "halftone",
            (0.1, 0.2, 0.35, 0.5, 0.7, 1.0),
            (0.82, 0.72, 0.59, 0.49, 0.38, 0.27),
            _print_halftone,
        ),
    )
}
COMBINED_LADDERS: Final = (("blur", "jpeg"), ("noise", "jpeg"), ("down-up", "webp"), ("blur", "noise"))
"""Ladders of two degradations: the first one is applied before the second one, both on the same rung."""
LADDERS: Final = (*DISTORTIONS, *(f"{first}+{second}" for first, second in COMBINED_LADDERS))


@dataclass(frozen=True)
class Rung:
    """A page on a rung of a ladder; rung 0 is the clean page."""

    ladder: str
    rung: int
    pixels: Pixels
    components: tuple[float, ...]
    """Wanted scores of its components, in the order of `COMPONENTS`."""
    method: str = ""
    """Filter or network that enlarged it, or `truth` if it is the clean page with halos; empty on ladders of damage."""
    factor: float = 1.0
    """Factor by which it was reduced and enlarged."""
    damage: str = ""
    """Damage of the reduced page, a key of `training.enlargements.DAMAGES`, or `halo`."""

    @property
    def score(self) -> float:
        """Wanted total score."""
        return float(np.prod(self.components))


def make_ladder(clean: Pixels, ladder: str, seed: int) -> list[Rung]:
    """Make rungs 0 to 6 of a ladder for a clean HxWx3 page. All use the same random numbers."""
    rungs = [Rung(ladder, 0, clean, (CLEAN_SCORE,) * len(COMPONENTS))]
    for rung in range(1, RUNG_COUNT + 1):
        pixels, wanted = clean, dict.fromkeys(COMPONENTS, CLEAN_SCORE)
        for name in ladder.split("+"):
            distortion = DISTORTIONS[name]
            pixels = distortion.apply(pixels, distortion.severities[rung - 1], Random(seed))
            wanted[distortion.component] = min(wanted[distortion.component], distortion.scores[rung - 1])
        rungs.append(Rung(ladder, rung, pixels, tuple(wanted.values())))
    return rungs


def applicable_ladders(clean: Pixels) -> tuple[str, ...]:
    """The ladders that apply to a page: banding needs slopes, print halftone needs colour.

    In gray, a halftone is screentone, which is art.
    """
    luma = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(luma, (0, 0), 2)
    slope = np.hypot(
        cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)
    )
    sloping = float(((slope > 0.1) & (slope < 2)).mean())
    coloured = float((np.ptp(clean.astype(np.int16), axis=2) > 24).mean())
    return tuple(
        ladder
        for ladder in LADDERS
        if not (ladder == "banding" and sloping < 0.25) and not (ladder == "halftone" and coloured < 0.2)
    )
