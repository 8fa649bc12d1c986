"""Counts of the damages that the validator detects and of the correct results that it refuses.

The material: twenty real pages; their enhancements by five networks for drawn pages, and by one for photographs as
a comparison; and twenty kinds of damage in three strengths, applied to the bundled network's results. The suite
asserts on the counts; `python -m benchmarks.damage` prints them as the tables of docs/explanation/quality.md.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from panelworks.domain.cards import BUNDLED
from panelworks.domain.result import Check
from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for
from panelworks.models.tiling import run_tiled
from panelworks.pictures import Picture, resize
from panelworks.quality.checks import check_alpha, check_gray, check_size
from panelworks.quality.validation import compare_pixels
from panelworks.settings import Settings
from panelworks.steps.upscale import restore_tones
from tests.damage import (
    KINDS,
    STRENGTHS,
    Damage,
    Enhanced,
    Strength,
    contrast,
    damaged,
    fading,
    lost_alpha,
    open_picture,
)

PAGES: Final = (
    "pepper_e01_p00.webp", "pepper_e01_p01.webp", "pepper_e01_p02.webp", "pepper_coriander.jpg",
    "pepper_silent_page.jpg", "pepper_user_manual.jpg", "pepper_pencil_sketch.jpg", "science_comics_1946_pg01.jpg",
    "science_comics_1946_pg11.jpg", "alice_27.png", "glass_21.png", "justso_6-2.png", "gopher_pirate-boat.png",
    "flat_illustrations_17.png", "three_blind_mice_page8.jpg", "ai_gallery-2.png", "ai_neontech.jpg",
    "pair_upscale-3x_clean.jpg", "derived_gray_e01_p02.png", "derived_screentone_pepper_e01_p01.png",
)  # fmt: skip
DRAWN: Final = (
    BUNDLED,
    "opencomic-2x",
    "opencomic-4x",
    "realesr-animevideov3",
    "realcugan-se_up2x-conservative.from-ncnn-fp16.pth",
)
"""Networks for drawn pages, by name or file. Their results are correct."""
PHOTOGRAPHIC: Final = "realesr-general-x4v3.from-ncnn-fp16.pth"
_LARGEST: Final = 2600


def source_of(path: Path, side: int, place: int = 0) -> Picture:
    """A square of a page: of 16 candidates the `place`-th by contrast, highest first."""
    page = open_picture(str(path))
    if max(page.size) > _LARGEST:
        factor = _LARGEST / max(page.size)
        page = resize(page, (round(page.width * factor), round(page.height * factor)))
    side = min(side, page.width, page.height)
    parts = []
    for top in np.linspace(0, page.height - side, 4).astype(int):
        for left in np.linspace(0, page.width - side, 4).astype(int):
            part = page.region(int(left), int(top), side, side)
            parts.append((contrast(part.luma()), part.pixels))
    parts.sort(key=lambda part: -part[0])
    return Picture(np.ascontiguousarray(parts[place][1]))


def sources(assets: Path, side: int, place: int = 0) -> dict[str, Picture]:
    """The twenty pages, cut to squares of `side`."""
    return {name: source_of(assets / "pages" / name, side, place) for name in PAGES}


def enhanced(model: str, pages: dict[str, Picture], settings: Settings) -> dict[str, Picture]:
    """Enhance each page by one network, as the provider of the step does."""
    folder = settings.model_path[0]
    network = load_network(
        Recipe(card_for(str(folder / model) if model.endswith(".pth") else model)), settings
    )
    results = {}
    for name, page in pages.items():
        pixels = run_tiled(network, page.rgb(), 256)
        restore_tones(page.rgb(), pixels)
        results[name] = page.with_rgb(pixels)
    network.close()
    return results


def verdict(source: Picture, result: Picture, size: tuple[int, int]) -> list[Check]:
    """The failed checks among those that compare pixels."""
    checks = [
        check_size(result, size),
        check_gray(source, result),
        check_alpha(source, result),
    ]
    if all(check.passed for check in checks):
        checks += compare_pixels(source, result)
    return [check for check in checks if not check.passed]


@dataclass
class Count:
    """How many damages of a kind were detected, by strength, and the first check that detected each."""

    caught: list[int] = field(default_factory=lambda: [0, 0, 0])
    of: list[int] = field(default_factory=lambda: [0, 0, 0])
    checks: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)


def damages(
    pages: dict[str, Picture], results: dict[str, Picture], strengths: Sequence[Strength] = STRENGTHS
) -> Iterator[tuple[Damage, str, int, Enhanced, Picture]]:
    """Yield every visible damage: (kind, page, strength, the correct pair, the damaged result)."""
    names = list(pages)
    for number, name in enumerate(names):
        other = results[names[(number + 1) % len(names)]]
        honest = Enhanced(pages[name], results[name], other, number)
        clear = Enhanced(fading(honest.source), fading(honest.result), other, number)
        for damage in KINDS:
            pair = clear if damage is lost_alpha else honest
            for strength in map(STRENGTHS.index, strengths):
                result = damaged(pair, damage, strength)
                if result is not None:
                    yield damage, name, strength, pair, result


def counted(
    pages: dict[str, Picture], results: dict[str, Picture], strengths: Sequence[Strength] = STRENGTHS
) -> dict[str, Count]:
    """Count detected damages by kind."""
    counts = {damage.__name__: Count() for damage in KINDS}
    for damage, name, strength, pair, result in damages(pages, results, strengths):
        count = counts[damage.__name__]
        failed = verdict(pair.source, result, pair.result.size)
        count.of[strength] += 1
        if failed:
            count.caught[strength] += 1
            count.checks[failed[0].name] += 1
        else:
            count.missed.append(f"{name} ({STRENGTHS[strength]})")
    return counts


def caught_share(counts: dict[str, Count]) -> float:
    """Share of the middle and strong damages that were detected."""
    return sum(sum(count.caught[1:]) for count in counts.values()) / sum(
        sum(count.of[1:]) for count in counts.values()
    )


def refused(pages: dict[str, Picture], results: dict[str, Picture]) -> dict[str, list[Check]]:
    """The correct results that are refused, each with its failed checks."""
    failed = {name: verdict(page, results[name], results[name].size) for name, page in pages.items()}
    return {name: checks for name, checks in failed.items() if checks}
