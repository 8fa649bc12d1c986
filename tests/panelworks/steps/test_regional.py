"""Treating parts of a page: soft borders, and not one other pixel changes."""

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as limits

from panelworks.domain.regions import ArtifactKind, ArtifactRegion, Region
from panelworks.pictures import Picture
from panelworks.pictures.picture import Pixels
from panelworks.settings import Settings
from panelworks.steps import step_for, take_inventory
from panelworks.steps.base import Work
from panelworks.steps.catalogue import provider_named
from panelworks.steps.regional import FEATHER_PIXELS, fix_regions, is_regional, treat
from tests.pages import psnr
from tests.panelworks.quality.test_regions import as_jpeg, painted_page, with_bands, with_noise


def steep_slope() -> Pixels:
    """Slopes whose bands are about as wide as those that the filter smooths."""
    down, across = np.mgrid[0:384, 0:512]
    slope = 20 + 0.25 * across + 0.2 * down + np.random.default_rng(2).random((384, 512))
    return np.repeat(slope[:, :, None], 3, axis=2).astype(np.uint8)


def whitened(picture: Picture) -> Picture:
    return Picture(np.full_like(picture.pixels, 255), picture.alpha)


def test_the_treatment_fades_out_around_a_region() -> None:
    page = Picture(np.zeros((200, 300, 1), dtype=np.uint8))
    row = treat(page, [Region(left=100, top=50, width=80, height=60)], whitened).pixels[80, :, 0].astype(int)
    assert (row[100:180] == 255).all()
    border = row[180 : 180 + FEATHER_PIXELS]
    assert (np.diff(border) < 0).all()
    assert not row[180 + FEATHER_PIXELS :].any()
    assert not row[: 100 - FEATHER_PIXELS].any()


def test_neighbouring_regions_have_no_seam() -> None:
    page = Picture(np.zeros((200, 300, 3), dtype=np.uint8))
    halves = [Region(left=64, top=64, width=64, height=64), Region(left=128, top=64, width=64, height=64)]
    whole = [Region(left=64, top=64, width=128, height=64)]
    assert (treat(page, halves, whitened).pixels == treat(page, whole, whitened).pixels).all()


@limits(max_examples=40)
@given(
    size=strategies.tuples(strategies.integers(1, 150), strategies.integers(1, 150)),
    corner=strategies.tuples(strategies.integers(0, 160), strategies.integers(0, 160)),
    extent=strategies.tuples(strategies.integers(1, 90), strategies.integers(1, 90)),
    channels=strategies.sampled_from([1, 3]),
    alpha=strategies.booleans(),
)
def test_other_pixels_stay_identical(
    size: tuple[int, int], corner: tuple[int, int], extent: tuple[int, int], channels: int, alpha: bool
) -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 255, (size[1], size[0], channels), dtype=np.uint8)
    opacity = random.integers(0, 255, (size[1], size[0]), dtype=np.uint8) if alpha else None
    page = Picture(pixels, opacity)
    done = treat(page, [Region(left=corner[0], top=corner[1], width=extent[0], height=extent[1])], whitened)
    changed = (done.pixels != pixels).any(axis=2)
    reach = FEATHER_PIXELS
    rows = slice(max(0, corner[1] - reach), corner[1] + extent[1] + reach)
    columns = slice(max(0, corner[0] - reach), corner[0] + extent[0] + reach)
    changed[rows, columns] = False
    assert not changed.any()
    assert done.alpha is page.alpha
    inside = done.pixels[corner[1] : corner[1] + extent[1], corner[0] : corner[0] + extent[0]]
    assert (inside == 255).all()


@pytest.mark.parametrize("kind", ["jpeg_blocks", "banding", "noise"])
def test_the_treated_part_is_closer_to_the_page_without_artifacts(
    kind: ArtifactKind, settings: Settings
) -> None:
    degrade = {"jpeg_blocks": lambda one: as_jpeg(one, 12), "banding": with_bands, "noise": with_noise}[kind]
    clean = steep_slope() if kind == "banding" else painted_page()[:384, :512]
    page = clean.copy()
    page[:, 256:] = degrade(np.ascontiguousarray(clean[:, 256:]))
    region = ArtifactRegion(kind=kind, left=256, top=0, width=256, height=384, strength=0.8)
    step = step_for(
        "fix_artifacts", take_inventory(settings), "deblock-deband", regions=[region.model_dump()]
    )
    assert is_regional(step)
    notes: list[str] = []
    work = Work(settings, (512, 384), note=notes.append)
    done = fix_regions(provider_named(step.provider), Picture(page), step, work).pixels
    assert psnr(done[:, 256:], clean[:, 256:]) > psnr(page[:, 256:], clean[:, 256:]) + 0.2
    assert (done[:, : 256 - FEATHER_PIXELS] == page[:, : 256 - FEATHER_PIXELS]).all()
    assert notes == [f"{region.title} treated in 1 region, 50% of the page"]


def test_halftone_is_not_treated(settings: Settings) -> None:
    region = ArtifactRegion(kind="halftone", left=0, top=0, width=256, height=384, strength=0.8)
    step = step_for(
        "fix_artifacts", take_inventory(settings), "deblock-deband", regions=[region.model_dump()]
    )
    page = Picture(painted_page())
    assert fix_regions(provider_named(step.provider), page, step, Work(settings, page.size)) is page
