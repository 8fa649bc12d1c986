"""Artifacts in parts of a page: which part, which kind, and that clean pages have hardly any."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis import settings as limits
from PIL import Image

from panelworks.domain.regions import MAX_ARTIFACT_REGIONS, ArtifactRegion, Region
from panelworks.pictures.decode import decode
from panelworks.pictures.picture import Picture, Pixels
from panelworks.quality.regions import CELL_PIXELS, find_artifact_regions
from panelworks.settings import Settings

WIDTH, HEIGHT = 768, 448
MAX_CLEAN_SHARE = 0.02
"""Maximum share of a clean page in regions."""


def painted_page() -> Pixels:
    """A page with slopes of colour and lines, without any artifact."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    page = np.dstack(
        [60 + 120 * across / WIDTH, 200 - 90 * down / HEIGHT, 90 + 60 * (across + down) / (WIDTH + HEIGHT)],
    )
    random = np.random.default_rng(4)
    for _ in range(60):
        centre = int(random.integers(0, WIDTH)), int(random.integers(0, HEIGHT))
        cv2.circle(page, centre, int(random.integers(10, 60)), (20, 20, 20), 3)
    page += random.random(page.shape) - 0.5  # rounds as a painter's slopes do, without bands
    pixels: Pixels = np.rint(np.clip(page, 1, 254)).astype(np.uint8)
    return pixels


def as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def with_noise(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(5).normal(0, 14, (*pixels.shape[:2], 1))
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def with_bands(pixels: Pixels) -> Pixels:
    return np.minimum(pixels // 8 * 8 + 4, 255).astype(np.uint8)


def with_dots(pixels: Pixels) -> Pixels:
    """Print each colour with dots of its own angle."""
    down, across = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]].astype(np.float32)
    printed = np.empty_like(pixels)
    for channel, angle in enumerate((0.26, 1.31, 0.79)):
        along = across * np.cos(angle) + down * np.sin(angle)
        other = down * np.cos(angle) - across * np.sin(angle)
        screen = 127 + 60 * (np.cos(along * 2 * np.pi / 6) + np.cos(other * 2 * np.pi / 6))
        printed[:, :, channel] = np.where(pixels[:, :, channel] > screen, 235, 30)
    return printed


def covered(regions: tuple[ArtifactRegion, ...], part: Region, kind: str | None = None) -> float:
    """Share of a part of the page in regions, of one kind if it is given."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for one in regions:
        if kind in (None, one.kind):
            mask[one.top : one.top + one.height, one.left : one.left + one.width] = True
    rows, columns = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
    return float(mask[rows, columns].mean())


@pytest.mark.parametrize(
    ("kind", "degrade"),
    [
        ("jpeg_blocks", lambda pixels: as_jpeg(pixels, 10)),
        ("jpeg_blocks", lambda pixels: as_jpeg(pixels, 20)),
        ("jpeg_blocks", lambda pixels: as_jpeg(pixels, 30)),
        ("noise", with_noise),
        ("banding", with_bands),
        ("halftone", with_dots),
    ],
)
def test_the_degraded_half_is_found(kind: str, degrade: Callable[[Pixels], Pixels]) -> None:
    page = painted_page()
    half = WIDTH // 2
    page[:, half:] = degrade(np.ascontiguousarray(page[:, half:]))
    found = find_artifact_regions(Picture(page))
    assert covered(found, Region(left=half, top=0, width=half, height=HEIGHT), kind) > 0.8, found
    assert covered(found, Region(left=0, top=0, width=half - CELL_PIXELS, height=HEIGHT)) < MAX_CLEAN_SHARE, (
        found
    )


@pytest.mark.parametrize("quality", [None, 60, 85, 95])
def test_a_page_without_visible_artifacts_has_no_regions(quality: int | None) -> None:
    page = painted_page() if quality is None else as_jpeg(painted_page(), quality)
    assert (
        covered(find_artifact_regions(Picture(page)), Region(left=0, top=0, width=WIDTH, height=HEIGHT))
        < MAX_CLEAN_SHARE
    )


def test_a_stronger_artifact_has_a_higher_strength() -> None:
    strengths = [
        find_artifact_regions(Picture(as_jpeg(painted_page(), quality)))[0].strength
        for quality in (10, 20, 30)
    ]
    assert strengths == sorted(strengths, reverse=True)
    assert len(set(strengths)) == 3


def test_the_screentone_of_a_gray_page_is_art() -> None:
    gray = with_dots(painted_page())[:, :, :1]
    assert "halftone" not in {one.kind for one in find_artifact_regions(Picture(np.ascontiguousarray(gray)))}


@pytest.mark.parametrize(
    "name",
    [
        "pair_artifact-removal_clean.jpg",
        "gopher_witch-cooking.png",
        "justso_5-2.png",
        "derived_gray_e01_p02.png",
    ],
)
def test_clean_real_pages_have_hardly_any_region(name: str, assets: Path, settings: Settings) -> None:
    picture = decode((assets / "pages" / name).read_bytes(), settings).picture
    share = sum(one.area for one in find_artifact_regions(picture)) / (picture.width * picture.height)
    assert share < MAX_CLEAN_SHARE


SIDES = strategies.one_of(
    strategies.integers(1, 9), strategies.integers(60, 70), strategies.sampled_from([128, 200])
)


@limits(max_examples=40)
@given(
    width=SIDES,
    height=strategies.one_of(SIDES, strategies.just(3000)),
    channels=strategies.sampled_from([1, 3]),
    alpha=strategies.booleans(),
    look=strategies.sampled_from(["noise", "flat", "dots", "slope"]),
)
def test_regions_lie_on_pages_of_any_size(
    width: int, height: int, channels: int, alpha: bool, look: str
) -> None:
    random = np.random.default_rng(width * height)
    shape = (height, width, channels)
    looks: dict[str, Callable[[], Any]] = {
        "noise": lambda: random.integers(0, 256, shape),
        "flat": lambda: np.full(shape, 255),
        "dots": lambda: np.indices(shape[:2]).sum(axis=0)[:, :, None] % 3 * 80 + np.zeros(shape),
        "slope": lambda: np.arange(height)[:, None, None] // 8 * 4 % 256 + np.zeros(shape),
    }
    pixels = looks[look]().astype(np.uint8)
    opacity = random.integers(0, 256, shape[:2]).astype(np.uint8) if alpha else None
    found = find_artifact_regions(Picture(pixels, opacity))
    assert len(found) <= MAX_ARTIFACT_REGIONS
    for one in found:
        assert one.left + one.width <= width
        assert one.top + one.height <= height
        assert 0 < one.strength <= 1
