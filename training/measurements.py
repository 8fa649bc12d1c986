"""Measures of pages on their ladders, for fitting and for evaluating the quality head."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image

from panelworks.pictures import Picture
from panelworks.pictures.view import sample_views
from panelworks.quality.measures import average_measures, measure_view
from training.corpus import Page, draw_pages, read_folder, read_pages
from training.ladders import (
    CLEAN_SCORE,
    COMPONENTS,
    DISTORTIONS,
    Pixels,
    Rung,
    applicable_ladders,
    make_ladder,
)

MAX_PAGE_PIXELS: Final = 2_000_000
"""Larger pages are first reduced to this size. At that size they are clean, whatever their scanner added."""
OTHER_SIZES: Final = (0.5, 0.7, 0.85)
"""Other sizes at which the score of a page must not change."""
_CROP_PIXELS: Final = 480
_CLEAN_SCORES: Final = (CLEAN_SCORE,) * len(COMPONENTS)


@dataclass(frozen=True)
class Base:
    """A clean page, or a part of one, from which ladders are made."""

    work: str
    """The work it belongs to. Works are never split between fitting and evaluation."""
    pixels: Pixels


def shrink(pixels: Pixels, most: float) -> Pixels:
    """Reduce the page to at most `most` pixels."""
    height, width = pixels.shape[:2]
    if height * width <= most:
        return pixels
    factor = (most / (height * width)) ** 0.5
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def read_held_out(folder: Path) -> list[Base]:
    """Read the held-out works, as whole pages."""
    return [
        Base(page.name, shrink(page.pixels, MAX_PAGE_PIXELS)) for page in read_pages(folder, held_out=True)
    ]


def read_for_fitting(
    pages: Path | None, folders: Iterable[Path], fonts: Path | None, seed: int = 5
) -> list[Base]:
    """Read parts of the other works at several sizes, of folders of clean pictures, and of drawings."""
    random = Random(seed)
    found: list[Base] = []
    for page in read_pages(pages, held_out=False) if pages else []:
        work = page.name.rsplit("_", 1)[0]
        found += [Base(work, _random_part(page, random, (3e6, 2e6, 1.2e6, 0.7e6))) for _ in range(7)]
    for folder in folders:
        others = read_folder(folder)
        random.shuffle(others)
        found += [Base(page.name, _random_part(page, random, (1.5e6, 0.8e6, 0.5e6))) for page in others[:120]]
    drawings = draw_pages(24, seed, tuple(sorted(fonts.glob("**/*.[ot]tf"))) if fonts else ())
    found += [Base(page.name, _random_part(page, random, (1e6,))) for page in drawings]
    return [base for base in found if base.pixels.std() > 12]


def _random_part(page: Page, random: Random, sizes: tuple[float, ...]) -> Pixels:
    pixels = shrink(page.pixels, random.choice(sizes))
    height, width = (min(_CROP_PIXELS, side) for side in pixels.shape[:2])
    top, left = random.randint(0, pixels.shape[0] - height), random.randint(0, pixels.shape[1] - width)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def make_rungs(base: Base, seed: int) -> Iterator[Rung]:
    """Make all rungs of a page: the clean page, each ladder, other sizes, and a light recompression."""
    clean = base.pixels
    yield Rung("clean", 0, clean, _CLEAN_SCORES)
    for ladder in applicable_ladders(clean):
        yield from make_ladder(clean, ladder, seed)[1:]
    for size in OTHER_SIZES:
        sides = (round(clean.shape[1] * size), round(clean.shape[0] * size))
        other = np.asarray(Image.fromarray(clean).resize(sides, Image.Resampling.LANCZOS))
        yield Rung("size", round(100 * size), other, _CLEAN_SCORES)
    yield Rung("q95", 95, DISTORTIONS["jpeg"].apply(clean, 95, Random(seed)), _CLEAN_SCORES)


def measure_rungs(bases: list[Base]) -> Iterator[dict[str, str | int | float]]:
    """Measure each rung: a row with base, work, ladder, rung, the wanted score of each component (`want_...`) and the
    measures."""
    for number, base in enumerate(bases):
        for rung in make_rungs(base, number):
            wanted = {f"want_{name}": value for name, value in zip(COMPONENTS, rung.components, strict=True)}
            yield {
                "base": number,
                "work": base.work,
                "ladder": rung.ladder,
                "rung": rung.rung,
                **wanted,
                **measure_page(rung.pixels),
            }


def measure_page(pixels: Pixels) -> dict[str, float]:
    """Measure an HxWx3 page. It is gray if its channels are equal."""
    return average_measures(measure_view(view) for view in sample_views(to_picture(pixels)))


def to_picture(pixels: Pixels) -> Picture:
    """Convert like the decoder: to one channel if all three are equal."""
    gray = int(np.ptp(pixels.astype(np.int16), axis=2).max()) == 0
    return Picture(np.ascontiguousarray(pixels[:, :, :1]) if gray else pixels)


def measure_names(table: pd.DataFrame) -> list[str]:
    """The columns with measures."""
    other_columns = ("base", "work", "ladder", "rung", "want_")
    return [name for name in map(str, table.columns) if not name.startswith(other_columns)]
