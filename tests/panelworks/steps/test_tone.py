"""Tone: paper becomes white, ink black, and coloured areas stay."""

import numpy as np
import pytest

from panelworks.pictures import Picture
from panelworks.steps.tone import correct_tones, measure_tone_points
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
