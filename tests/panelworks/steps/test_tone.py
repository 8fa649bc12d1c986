"""Tone: paper becomes white, ink black, and coloured areas stay."""

import numpy as np
import pytest

from panelworks.domain.options import TonePoints
from panelworks.pictures import Picture
from panelworks.steps.tone import (
    correct_levels,
    correct_tones,
    measure_tone_points,
    remove_colour,
    share_tone_points,
)
from tests.pages import drawn


def page(paper: tuple[int, ...], ink: tuple[int, ...]) -> Picture:
    pixels = np.full((120, 100, len(paper)), paper, np.uint8)
    pixels[20:60, 20:50] = ink
    return Picture(pixels)


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        ((228, 206, 160), (40, 34, 30)),
        ((235, 235, 235), (25, 25, 25)),
        ((240, 244, 246), (10, 12, 20)),
        ((200,), (30,)),
    ],
)
def test_paper_becomes_white_and_ink_black(paper: tuple[int, ...], ink: tuple[int, ...]) -> None:
    result = correct_tones(page(paper, ink), 1.0)
    assert result.pixels[0, 0].tolist() == [255] * len(paper)
    assert result.pixels[30, 30].tolist() == [0] * len(paper)
    assert result.is_gray == (len(paper) == 1)
    half = correct_tones(page(paper, ink), 0.5).pixels[0, 0]
    assert all(abs(int(level) - (255 + before) / 2) <= 6 for level, before in zip(half, paper, strict=True))


@pytest.mark.parametrize("light", [(170, 205, 190), (250, 230, 90), (190, 200, 250)])
def test_a_drawn_colour_does_not_count_as_paper(light: tuple[int, int, int]) -> None:
    night = page(light, (5, 20, 90))
    assert measure_tone_points(night).white == (255.0,) * 3
    assert measure_tone_points(night).black == (0.0,) * 3
    moved = np.abs(correct_tones(night, 1.0).pixels.astype(int) - night.pixels).max()
    assert moved < 30, "only a little contrast and colour is added"


def test_white_black_and_gray_stay_the_same() -> None:
    ends = page((255, 255, 255), (0, 0, 0))
    assert np.array_equal(correct_tones(ends, 1.0).pixels, ends.pixels)
    gray = Picture(drawn(80, 60, "screentone").pixels.repeat(3, axis=2))
    spread = np.ptp(correct_tones(gray, 1.0).pixels.astype(int), axis=2)
    assert spread.max() <= 1


def test_strength_zero_changes_nothing_and_alpha_stays() -> None:
    alpha = np.full((60, 80), 90, np.uint8)
    picture = Picture(drawn(80, 60).pixels, alpha)
    result = correct_tones(picture, 0.0)
    assert np.abs(result.pixels.astype(int) - picture.pixels).max() <= 1
    assert result.alpha is alpha


def test_a_dark_page_has_no_paper() -> None:
    dark = Picture(np.full((50, 50, 3), 60, np.uint8))
    assert measure_tone_points(dark).white == (255.0,) * 3


def test_levels_stretch_between_paper_and_ink_without_more_contrast_or_colour() -> None:
    yellowed = page((228, 206, 160), (40, 34, 30))
    yellowed.pixels[70:100, 20:50] = (134, 120, 95)  # half way between ink and paper
    result = correct_levels(yellowed, 1.0).pixels
    assert result[0, 0].tolist() == [255] * 3 and result[30, 30].tolist() == [0] * 3
    assert np.abs(result[80, 30].astype(int) - 127).max() <= 1


@pytest.mark.parametrize("paper", [(226, 204, 158), (232, 210, 166)])
def test_pages_of_a_book_get_the_same_levels(paper: tuple[int, int, int]) -> None:
    shared = TonePoints(white=(228, 206, 160), black=(40, 34, 30))
    ink = (38, 36, 30)
    expected = np.clip((np.array(paper) - shared.black) / (np.array(shared.white) - shared.black), 0, 1) * 255
    result = correct_levels(page(paper, ink), 1.0, shared).pixels[0, 0]
    assert np.abs(result - expected).max() <= 1, "the paper of the page itself would have become white"


def test_a_page_on_other_paper_than_its_book_keeps_its_own_levels() -> None:
    shared = TonePoints(white=(228, 206, 140), black=(40, 34, 30))
    cover = page((250, 250, 248), (5, 5, 5))
    assert np.array_equal(correct_levels(cover, 1.0, shared).pixels, correct_levels(cover, 1.0).pixels)


def test_a_gray_page_uses_the_brightness_of_shared_levels() -> None:
    shared = TonePoints(white=(228, 206, 160), black=(40, 34, 30))
    assert correct_levels(page((205,), (30,)), 1.0, shared).pixels[0, 0, 0] in (252, 253)


def test_the_paper_of_a_book_is_the_median_of_pages_that_have_paper() -> None:
    pages = [
        measure_tone_points(page((level, level - 20, level - 60), (30, 30, 30))) for level in (230, 226, 240)
    ]
    dark = measure_tone_points(Picture(np.full((50, 50, 3), 60, np.uint8)))
    shared = share_tone_points([*pages, dark])
    assert shared is not None and shared.white == (230, 210, 170)
    assert share_tone_points([dark]) is None
    assert share_tone_points([]) is None


def test_colour_is_removed_and_alpha_stays() -> None:
    alpha = np.full((60, 80), 90, np.uint8)
    result = remove_colour(Picture(drawn(80, 60).pixels, alpha))
    assert result.is_gray and result.alpha is alpha
    assert remove_colour(result) is result
