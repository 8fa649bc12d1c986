"""Validation of mutated pages: damage is detected, faithful results pass."""

from collections.abc import Callable

import numpy as np
import pytest

from panelworks.domain.quality import QualityReport
from panelworks.domain.result import Verdict
from panelworks.pictures import Picture, resize
from panelworks.pictures.picture import Pixels
from panelworks.quality import assess, score_delivery, validation
from panelworks.quality.checks import check_alpha
from panelworks.quality.validation import compare_pixels, validate
from tests.pages import drawn

SOURCE = drawn(320, 400, seed=4)
HONEST = resize(SOURCE, (640, 800))


def judge(enhanced: Picture, source: Picture = SOURCE) -> Verdict:
    return validate(source, enhanced, (640, 800), assessed(source))


def assessed(source: Picture) -> QualityReport:
    """The report on a source that is delivered at twice its size."""
    return score_delivery(assess(source), source, (640, 800))


def changed(change: Callable[[Pixels], None]) -> Picture:
    pixels = HONEST.pixels.copy()
    change(pixels)
    return Picture(pixels)


def black_tile(pixels: Pixels) -> None:
    pixels[200:328, 100:228] = 0


def constant_tile(pixels: Pixels) -> None:
    pixels[200:328, 100:228] = pixels[200:328, 100:228].mean(axis=(0, 1))


def repeated_tile(pixels: Pixels) -> None:
    pixels[256:384, 256:384] = pixels[0:128, 0:128]


def swapped_channels(pixels: Pixels) -> None:
    pixels[:] = pixels[:, :, ::-1].copy()


def tint(pixels: Pixels) -> None:
    pixels[:, :, 2] = np.clip(pixels[:, :, 2].astype(int) - 14, 0, 255)


def mirrored(pixels: Pixels) -> None:
    pixels[:] = pixels[:, ::-1].copy()


def inverted(pixels: Pixels) -> None:
    pixels[:] = 255 - pixels


def darkened(pixels: Pixels) -> None:
    pixels[:] = (pixels * 0.8).astype(np.uint8)


def truncated_bottom(pixels: Pixels) -> None:
    pixels[700:] = 128


def another_page(pixels: Pixels) -> None:
    pixels[:] = resize(drawn(320, 400, seed=77), (640, 800)).pixels


def noise(pixels: Pixels) -> None:
    grain = np.random.default_rng(0).normal(0, 60, pixels.shape)
    pixels[:] = np.clip(pixels + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "damage",
    [
        black_tile,
        constant_tile,
        repeated_tile,
        swapped_channels,
        tint,
        mirrored,
        inverted,
        darkened,
        truncated_bottom,
        another_page,
        noise,
    ],
)
def test_damage_is_detected(damage: Callable[[Pixels], None]) -> None:
    verdict = judge(changed(damage))
    assert not verdict.passed
    assert verdict.reason != "all checks passed"


def test_a_faithful_enlargement_passes() -> None:
    verdict = judge(HONEST)
    assert verdict.passed, verdict.reason
    assert verdict.after is not None
    assert verdict.after.overall >= assessed(SOURCE).overall


@pytest.mark.parametrize(
    ("enhanced", "check"),
    [
        (resize(SOURCE, (639, 800)), "size"),
        (Picture(HONEST.pixels, np.full((800, 640), 9, np.uint8)), "alpha"),
    ],
)
def test_the_failed_check_is_named(enhanced: Picture, check: str) -> None:
    failed = [one.name for one in judge(enhanced).checks if not one.passed]
    assert failed == [check]


def test_a_gray_page_must_come_back_gray() -> None:
    gray = Picture(SOURCE.pixels[:, :, :1])
    assert [one.name for one in judge(HONEST, gray).checks if not one.passed] == ["gray"]


@pytest.mark.parametrize("scale", [1.0, 1.1, 1.3, 1.5, 1.9, 2.0, 3.3])
@pytest.mark.parametrize("width", [400, 401, 415, 1003])
def test_faithful_enlargements_of_any_size_pass(scale: float, width: int) -> None:
    """A page that is mostly paper, with a frame line at its very edge and one drawn block."""
    pixels = np.full((300, width, 3), 255, np.uint8)
    pixels[:, -1] = 0
    pixels[160:280, width - 200 : width - 80] = drawn(120, 120, seed=8).pixels
    source = Picture(pixels)
    size = (round(width * scale), round(300 * scale))
    enlarged = resize(source, size)
    verdict = validate(source, enlarged, size, assess(source))
    assert [check.name for check in verdict.checks if not check.passed] in ([], ["score"]), verdict.reason


def test_a_flat_page_may_stay_flat() -> None:
    flat = Picture(np.full((400, 320, 3), 200, np.uint8))
    assert judge(resize(flat, (640, 800)), flat).passed


@pytest.mark.parametrize("scale", [1.0, 1.37, 2.0, 4.0])
@pytest.mark.parametrize(("light", "dark"), [(255, 0), (200, 60), (130, 120)])
def test_an_edge_on_the_border_of_cells_is_not_texture(scale: float, light: int, dark: int) -> None:
    pixels = np.full((400, 400, 3), light, np.uint8)
    pixels[80:240, 80:320] = dark
    source, size = Picture(pixels), (round(400 * scale), round(400 * scale))
    failed = [check for check in compare_pixels(source, resize(source, size)) if not check.passed]
    assert failed == []


@pytest.mark.parametrize("scale", [1.1, 1.37, 1.5, 2.0])
@pytest.mark.parametrize("size", [(601, 433), (997, 90), (1, 500)])
def test_transparency_survives_any_scale(scale: float, size: tuple[int, int]) -> None:
    alpha = np.linspace(0, 255, size[0]).astype(np.uint8)[None, :].repeat(size[1], axis=0)
    source = Picture(np.full((size[1], size[0], 3), 90, np.uint8), alpha)
    enlarged = resize(source, (round(size[0] * scale), round(size[1] * scale)))
    assert check_alpha(source, enlarged).passed


@pytest.mark.parametrize("pattern", ["board", "rows", "noise", "drawn", "tiny"])
def test_an_unchanged_page_passes(pattern: str) -> None:
    rows, columns = np.indices((400, 320))
    pictures = {
        "board": np.where((rows + columns) % 2, 255, 0),
        "rows": np.where(rows % 2, 255, 0),
        "noise": np.random.default_rng(0).integers(0, 256, (400, 320)),
        "drawn": drawn(320, 400, seed=3).luma(),
        "tiny": np.arange(21).reshape(3, 7) * 12,
    }
    page = Picture(pictures[pattern].astype(np.uint8)[:, :, None])
    assert [check.name for check in compare_pixels(page, page) if not check.passed] == []


def test_a_page_that_lost_its_colour_is_refused() -> None:
    gray = Picture(HONEST.luma()[:, :, None].copy())
    assert [one.name for one in judge(gray).checks if not one.passed] == ["gray"]


def test_the_verdict_names_the_region() -> None:
    failed = next(check for check in judge(changed(black_tile)).checks if check.region is not None)
    assert failed.region is not None
    assert 40 <= failed.region.left <= 114
    assert 90 <= failed.region.top <= 164


def test_a_target_that_is_not_reached_fails() -> None:
    verdict = validate(SOURCE, HONEST, (640, 800), assess(SOURCE), target=0.99)
    assert [check.name for check in verdict.checks if not check.passed] == ["target"]


def test_a_large_page_is_compared_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A faithful result also passes in bands, and a region has its position on the page."""
    source = drawn(320, 1600, seed=4)
    enlarged = resize(source, (640, 3200))
    hurt = enlarged.pixels.copy()
    hurt[2600:2728, 100:228] = 0
    monkeypatch.setattr(validation, "_BAND_PIXELS", 320 * 400)
    assert [check.name for check in compare_pixels(source, enlarged) if not check.passed] == []
    failed = next(check for check in compare_pixels(source, Picture(hurt)) if check.name == "low_frequencies")
    assert failed.region is not None
    assert 1290 <= failed.region.top <= 1364
