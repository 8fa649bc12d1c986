"""Validation of real pages: damage is detected, faithful results pass (see docs/explanation/quality.md)."""

from pathlib import Path

import pytest

from panelworks.domain.cards import BUNDLED
from panelworks.pictures import Picture
from panelworks.settings import Settings
from tests.damage import KINDS
from tests.damage_counts import DRAWN, Count, caught_share, counted, enhanced, refused, sources

SIDE = 384
"""The side used in the tables of the documentation."""
SIDE_OF_LARGE_NETWORKS = 256
"""The side of the pages that the larger networks enhance: one tile each."""


@pytest.fixture(scope="module")
def pages(assets: Path) -> dict[str, Picture]:
    return sources(assets, SIDE)


@pytest.fixture(scope="module")
def with_weights(assets: Path) -> Settings:
    return Settings(device="cpu", model_path=(assets / "weights",))


@pytest.fixture(scope="module")
def bundled(pages: dict[str, Picture], with_weights: Settings) -> dict[str, Picture]:
    """The pages, enhanced by the bundled network."""
    return enhanced(BUNDLED, pages, with_weights)


@pytest.fixture(scope="module")
def counts(pages: dict[str, Picture], bundled: dict[str, Picture]) -> dict[str, Count]:
    return counted(pages, bundled, ("middle", "strong"))


def test_damage_is_detected(counts: dict[str, Count]) -> None:
    missed = {name: count.missed for name, count in counts.items() if count.missed}
    assert caught_share(counts) >= 0.98, missed


@pytest.mark.parametrize("kind", [damage.__name__ for damage in KINDS])
def test_each_kind_of_damage_is_detected(kind: str, counts: dict[str, Count]) -> None:
    count = counts[kind]
    assert count.of[2] >= 10, "the damage means something to half of the pages"
    assert count.caught[2] >= 0.85 * count.of[2], count.missed


def test_faithful_results_pass(
    pages: dict[str, Picture], bundled: dict[str, Picture], with_weights: Settings
) -> None:
    """Of the results of five networks for drawn pages, at most one is refused.

    The larger networks enhance the middle of three pages; `python -m benchmarks.damage` counts all pages as a whole.
    How tiles meet is tested in `tests/panelworks/models/test_tiling.py`.
    """
    middles = {name: middle_of(page) for name, page in list(pages.items())[::7]}
    refusals = {}
    for model in DRAWN:
        some = pages if model == BUNDLED else middles
        for name, checks in refused(
            some, bundled if model == BUNDLED else enhanced(model, some, with_weights)
        ).items():
            refusals[f"{model} {name}"] = [(check.name, check.value) for check in checks]
    assert len(refusals) <= 1, refusals


def middle_of(page: Picture) -> Picture:
    side = SIDE_OF_LARGE_NETWORKS
    return page.region((page.width - side) // 2, (page.height - side) // 2, side, side)
