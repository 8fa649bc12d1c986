"""Measures of pages on their ladders: what the quality head is fitted on, and what it is judged by."""

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
from training.ladders import CLEAN, COMPONENTS, DISTORTIONS, Pixels, Rung, ladders_for, rungs_of

LARGEST: Final = 2_000_000
"""Pixels to which a larger page is shrunk first: it is clean at that size, whatever its scanner did."""
SIZES: Final = (0.5, 0.7, 0.85)
"""Other sizes at which a page is to score as it does."""
_CROP: Final = 480
_SAME: Final = (CLEAN,) * len(COMPONENTS)


@dataclass(frozen=True)
class Base:
    """A clean page, or a part of one, that ladders are built on."""

    work: str
    """What it belongs to; works are never divided between fitting and judging."""
    pixels: Pixels


def shrunk(pixels: Pixels, most: float) -> Pixels:
    """The page with at most so many pixels."""
    height, width = pixels.shape[:2]
    if height * width <= most:
        return pixels
    factor = (most / (height * width)) ** 0.5
    size = (round(width * factor), round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def held_out(folder: Path) -> list[Base]:
    """The works that nothing is fitted on, whole."""
    return [Base(page.name, shrunk(page.pixels, LARGEST)) for page in read_pages(folder, held_out=True)]


def for_fitting(pages: Path | None, folders: Iterable[Path], fonts: Path | None, seed: int = 5) -> list[Base]:
    """Parts of the other works, at several sizes, of other folders of clean pictures, and of drawings."""
    random = Random(seed)
    found: list[Base] = []
    for page in read_pages(pages, held_out=False) if pages else []:
        work = page.name.rsplit("_", 1)[0]
        found += [Base(work, _part(page, random, (3e6, 2e6, 1.2e6, 0.7e6))) for _ in range(7)]
    for folder in folders:
        others = read_folder(folder)
        random.shuffle(others)
        found += [Base(page.name, _part(page, random, (1.5e6, 0.8e6, 0.5e6))) for page in others[:120]]
    drawings = draw_pages(24, seed, tuple(sorted(fonts.glob("**/*.[ot]tf"))) if fonts else ())
    found += [Base(page.name, _part(page, random, (1e6,))) for page in drawings]
    return [base for base in found if base.pixels.std() > 12]


def _part(page: Page, random: Random, sizes: tuple[float, ...]) -> Pixels:
    pixels = shrunk(page.pixels, random.choice(sizes))
    height, width = (min(_CROP, side) for side in pixels.shape[:2])
    top, left = random.randint(0, pixels.shape[0] - height), random.randint(0, pixels.shape[1] - width)
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def rungs(base: Base, seed: int) -> Iterator[Rung]:
    """All rungs of a page: the clean one once, each ladder's, other sizes, and a light re-encoding."""
    clean = base.pixels
    yield Rung("clean", 0, clean, _SAME)
    for ladder in ladders_for(clean):
        yield from rungs_of(clean, ladder, seed)[1:]
    for size in SIZES:
        sides = (round(clean.shape[1] * size), round(clean.shape[0] * size))
        other = np.asarray(Image.fromarray(clean).resize(sides, Image.Resampling.LANCZOS))
        yield Rung("size", round(100 * size), other, _SAME)
    yield Rung("q95", 95, DISTORTIONS["jpeg"].apply(clean, 95, Random(seed)), _SAME)


def measured(bases: list[Base]) -> Iterator[dict[str, str | int | float]]:
    """One row a rung: base, work, ladder, rung, what each component is to score (`want_...`), and the measures."""
    for number, base in enumerate(bases):
        for rung in rungs(base, number):
            wanted = {f"want_{name}": value for name, value in zip(COMPONENTS, rung.components, strict=True)}
            yield {
                "base": number,
                "work": base.work,
                "ladder": rung.ladder,
                "rung": rung.rung,
                **wanted,
                **measures_of(rung.pixels),
            }


def measures_of(pixels: Pixels) -> dict[str, float]:
    """The measures of an HxWx3 page; gray where its channels are equal."""
    return average_measures(measure_view(view) for view in sample_views(picture_of(pixels)))


def picture_of(pixels: Pixels) -> Picture:
    """The page as decoding would give it: one channel where all three are equal."""
    gray = int(np.ptp(pixels.astype(np.int16), axis=2).max()) == 0
    return Picture(np.ascontiguousarray(pixels[:, :, :1]) if gray else pixels)


def measure_names(table: pd.DataFrame) -> list[str]:
    """The columns that are measures."""
    told = ("base", "work", "ladder", "rung", "want_")
    return [name for name in map(str, table.columns) if not name.startswith(told)]
