"""Measures of pages on their ladders, for fitting and for evaluating the quality head."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image

from panelworks.models.network import Network
from panelworks.pictures import Picture
from panelworks.pictures.view import sample_views
from panelworks.quality.measures import average_measures, measure_view
from training.corpus import Page, draw_pages, read_pages
from training.drawings import draw_page, screen_tones
from training.enlargements import make_enlarged_rungs
from training.ladders import (
    CLEAN_SCORE,
    COMPONENTS,
    DISTORTIONS,
    LADDERS,
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
_UNSEEN_PIXELS: Final = 640
_MIN_PART_PIXELS: Final = 200
_FITTED_SIZES: Final = (3e6, 2e6, 1.2e6, 0.7e6)
"""Pixels to which a page is reduced before a part of it is cropped."""
_LADDERS_OF_A_PAGE: Final = 5
_FITTED_PARTS: Final = 290
_FITTED_DRAWINGS: Final = 48
"""Drawings of the generator: pages of computers have gradients and even noise, which scans lack."""
GRADIENT_WORKS: Final = "gradient"
"""Beginning of the names of drawings with large gradients."""
_DRAWING_SIZE: Final = (640, 800)
_FITTED_GRADIENTS: Final = 48
"""Drawings with large gradients: of the drawings above, hardly one in ten has enough of them for the ladder of banding."""
_PARTS_OF_A_WORK: Final = 12
_PARTS_OF_A_PAGE: Final = 4
_FITTED_PAGES_IN_DOTS: Final = 24
_PAGES_OF_A_WORK: Final = 6
_PAGES_IN_DOTS: Final = 5
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


_UNSEEN_WORKS: Final = (
    "horst", "punch", "greenaway", "nutkin", "busch", "warcartoons", "oz_", "belloc", "hamilton", "fluent_", "notionists",
    "crane", "dore", "lear_1",
)  # fmt: skip
"""Works of the corpus, by the beginning of their names, that the head was not fitted on."""


def is_unseen(name: str) -> bool:
    """Is a page of the corpus, by its file name, one that the head was not fitted on?"""
    return name.startswith(_UNSEEN_WORKS)


def read_held_out(folder: Path) -> list[Base]:
    """Read the held-out works, as whole pages."""
    return [
        Base(page.name, shrink(page.pixels, MAX_PAGE_PIXELS)) for page in read_pages(folder, held_out=True)
    ]


def read_unseen(assets: Path, seed: int = 5) -> list[Base]:
    """Read parts of pages that neither the bundled network nor the head has seen: the works held out, works of the corpus, and
    some of their paintings printed in dots."""
    random = Random(seed)
    pages = read_pages(assets / "pages", held_out=True)
    by_work: dict[str, list[Page]] = {}
    for page in read_pages(assets / "corpus", held_out=False):
        if is_unseen(page.name):
            by_work.setdefault(_work_of(page), []).append(page)
    pages += [page for work in by_work.values() for page in work[:_PAGES_OF_A_WORK]]
    found = [Base(page.name, _crop_part(page.pixels, random, (2e6, 1e6), _UNSEEN_PIXELS)) for page in pages]
    for page in [page for page in pages if page.kind == "painted"][:_PAGES_IN_DOTS]:
        part = _crop_part(page.pixels, random, (1.2e6, 0.7e6), _UNSEEN_PIXELS)
        found.append(Base(f"{page.name} in dots", screen_tones(part, random)))
    return [base for base in found if _is_drawn(base)]


def read_for_fitting(
    folders: Iterable[Path], store: Path | None, fonts: Path | None, seed: int = 5
) -> list[Base]:
    """Read parts of the other works at several sizes, some of them printed in dots, and drawings.

    Args:
        folders: Folders of pages with a manifest.
        store: Folder for decoded pages, as in the training.
        fonts: Folder of fonts for the drawings.
        seed: Of the choice of the parts.
    """
    random = Random(seed)
    pages = [
        page
        for folder in folders
        for page in read_pages(folder, held_out=False, store=store)
        if not is_unseen(page.name)
    ]
    by_work: dict[str, list[Page]] = {}
    for page in pages:
        by_work.setdefault(_work_of(page), []).append(page)
    found = []
    for work, of_work in by_work.items():
        parts = (of_work * _PARTS_OF_A_PAGE)[:_PARTS_OF_A_WORK]
        found += [Base(work, _crop_part(page.pixels, random, _FITTED_SIZES)) for page in parts]
    for page in [page for page in pages if page.kind == "painted"][:_FITTED_PAGES_IN_DOTS]:
        part = _crop_part(page.pixels, random, (1.2e6, 0.7e6))
        found.append(Base(_work_of(page), screen_tones(part, random)))
    drawings = draw_pages(_FITTED_DRAWINGS, seed, _fonts_of(fonts))
    found += [Base(page.name, _crop_part(page.pixels, random, (1e6,))) for page in drawings]
    random.shuffle(found)
    return [base for base in found if _is_drawn(base)][:_FITTED_PARTS]


def draw_gradients(fonts: Path | None, seed: int = 7) -> list[Base]:
    """Draw pages, and keep the parts with enough gradients for the ladder of banding.

    Args:
        fonts: Folder of fonts.
        seed: Of the drawings.
    """
    random = Random(seed)
    found: list[Base] = []
    while len(found) < _FITTED_GRADIENTS:
        page = np.asarray(draw_page(_DRAWING_SIZE, random, "colour", _fonts_of(fonts)))
        part = _crop_part(page, random, (1e6,))
        if "banding" in applicable_ladders(part):
            found.append(Base(f"{GRADIENT_WORKS}-{len(found)}", part))
    return found


def _fonts_of(folder: Path | None) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("**/*.[ot]tf"))) if folder else ()


def _work_of(page: Page) -> str:
    return page.name.rsplit("_", 1)[0]


def _is_drawn(base: Base) -> bool:
    """Is there enough on a part, and is it large enough to be reduced by 4?"""
    return bool(base.pixels.std() > 12) and min(base.pixels.shape[:2]) >= _MIN_PART_PIXELS


def _crop_part(pixels: Pixels, random: Random, sizes: tuple[float, ...], side: int = _CROP_PIXELS) -> Pixels:
    """Reduce a page to one of `sizes` (pixels), and crop the most varied of four random parts."""
    page = shrink(pixels, random.choice(sizes))
    height, width = (min(side, length) for length in page.shape[:2])
    parts = []
    for _ in range(4):
        top, left = random.randint(0, page.shape[0] - height), random.randint(0, page.shape[1] - width)
        parts.append(page[top : top + height, left : left + width])
    return np.ascontiguousarray(max(parts, key=lambda part: float(part.std())))


def make_rungs(base: Base, seed: int, ladders: Collection[str] = LADDERS) -> Iterator[Rung]:
    """Make all rungs of a page: the clean page, each of `ladders` that applies, other sizes, and a light recompression."""
    clean = base.pixels
    yield Rung("clean", 0, clean, _CLEAN_SCORES)
    for ladder in applicable_ladders(clean):
        if ladder in ladders:
            yield from make_ladder(clean, ladder, seed)[1:]
    for size in OTHER_SIZES:
        sides = (round(clean.shape[1] * size), round(clean.shape[0] * size))
        other = np.asarray(Image.fromarray(clean).resize(sides, Image.Resampling.LANCZOS))
        yield Rung("size", round(100 * size), other, _CLEAN_SCORES)
    yield Rung("q95", 95, DISTORTIONS["jpeg"].apply(clean, 95, Random(seed)), _CLEAN_SCORES)


def measure_rungs(
    bases: Sequence[Base], networks: Mapping[str, Network], first: int = 0
) -> Iterator[dict[str, str | int | float]]:
    """Measure five ladders of each page and its enlargements: a row with base, work, the fields of the rung, its PSNR to the
    page, the wanted score of each component (`want_...`) and the measures.

    Args:
        bases: Pages; those of `GRADIENT_WORKS` have the ladder of banding beside the five.
        networks: Networks that enlarge the pages.
        first: Number of the first page.
    """
    for number, base in enumerate(bases, first):
        ladders = Random(number).sample(LADDERS, _LADDERS_OF_A_PAGE)
        if base.work.startswith(GRADIENT_WORKS) and "banding" not in ladders:
            ladders.append("banding")
        for rung in (
            *make_rungs(base, number, ladders),
            *make_enlarged_rungs(base.pixels, networks, number),
        ):
            yield {
                "base": number,
                "work": base.work,
                "ladder": rung.ladder,
                "rung": rung.rung,
                "method": rung.method,
                "factor": rung.factor,
                "damage": rung.damage,
                "psnr": measure_psnr(rung.pixels, base.pixels) if rung.ladder == "enlarged" else 0.0,
                **{f"want_{name}": value for name, value in zip(COMPONENTS, rung.components, strict=True)},
                **measure_page(rung.pixels),
            }


def measure_psnr(pixels: Pixels, truth: Pixels) -> float:
    """PSNR of the brightness, in dB."""
    first, second = (
        np.asarray(Image.fromarray(one).convert("L"), dtype=np.float64) for one in (pixels, truth)
    )
    return float(10 * np.log10(255**2 / max(float(np.mean((first - second) ** 2)), 1e-3)))


def measure_page(pixels: Pixels) -> dict[str, float]:
    """Measure an HxWx3 page. It is gray if its channels are equal."""
    return average_measures(measure_view(view) for view in sample_views(to_picture(pixels)))


def to_picture(pixels: Pixels) -> Picture:
    """Convert like the decoder: to one channel if all three are equal."""
    gray = int(np.ptp(pixels.astype(np.int16), axis=2).max()) == 0
    return Picture(np.ascontiguousarray(pixels[:, :, :1]) if gray else pixels)


def measure_names(table: pd.DataFrame) -> list[str]:
    """The columns with measures."""
    other_columns = ("base", "work", "ladder", "rung", "want_", "method", "factor", "damage", "psnr")
    return [name for name in map(str, table.columns) if not name.startswith(other_columns)]
