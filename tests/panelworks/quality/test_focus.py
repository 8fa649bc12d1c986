"""Smart crops keep faces and lettering."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from panelworks.domain.cards import CARDS
from panelworks.models.weights import file_digest
from panelworks.pictures import Picture
from panelworks.quality.focus import CLASSIFIER, Interest, Part, choose_crop, find_interest
from panelworks.quality.lettering import find_lettering


def flat(parts: tuple[Part, ...] = (), ink_rows: slice = slice(0, 0)) -> Interest:
    """A page of one even colour with parts, and rows that are full of lines."""
    ink = np.zeros((100, 100), dtype=np.float32)
    ink[ink_rows] = 1
    return Interest(np.full((10, 10), 0.01, dtype=np.float32), ink, parts)


@pytest.mark.parametrize(
    ("interest", "size", "crop", "low", "high"),
    [
        (flat(), (100, 300), (100, 100), (0, 95), (0, 105)),
        (flat(), (300, 100), (100, 100), (95, 0), (105, 0)),
        (flat((Part("face", (0.4, 0.05, 0.6, 0.15)),)), (100, 300), (100, 100), (0, 0), (0, 15)),
        (flat((Part("lettering", (0.4, 0.9, 0.6, 1.0)),)), (100, 300), (100, 100), (0, 195), (0, 200)),
        (flat((), slice(20, 50)), (100, 200), (100, 100), (0, 95), (0, 105)),  # no line at 25 and 75 %
        (flat(), (100, 100), (100, 100), (0, 0), (0, 0)),
        (flat(), (1, 9), (1, 1), (0, 3), (0, 5)),
    ],
)
def test_crops_keep_parts(
    interest: Interest,
    size: tuple[int, int],
    crop: tuple[int, int],
    low: tuple[int, int],
    high: tuple[int, int],
) -> None:
    corner = choose_crop(interest, size, crop)
    if interest.ink.any():  # the edges of the crop must not run through lines
        rows = [corner[1] * 100 // size[1], min(99, (corner[1] + crop[1]) * 100 // size[1])]
        assert not interest.ink[rows].any()
        return
    assert low[0] <= corner[0] <= high[0]
    assert low[1] <= corner[1] <= high[1]


def lettered(text: str = "HELLO WORLD AGAIN") -> Picture:
    """A gray drawing with a caption on white."""
    page = np.full((600, 800, 1), 128, dtype=np.uint8)
    cv2.rectangle(page, (100, 380), (520, 470), 255, -1)
    cv2.putText(page, text, (120, 420), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 0, 2)
    cv2.putText(page, text, (120, 455), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 0, 2)
    return Picture(page)


def test_lettering_is_found_with_its_balloon() -> None:
    blocks = find_lettering(lettered().luma())
    assert any(
        left <= 104 and top <= 384 and right >= 515 and bottom >= 465 for left, top, right, bottom in blocks
    )
    assert find_lettering(np.full((600, 800), 128, dtype=np.uint8)) == []
    assert find_lettering(np.zeros((1, 1), dtype=np.uint8)) == []


def test_a_crop_does_not_cut_lettering() -> None:
    picture = lettered()
    left, _ = choose_crop(find_interest(picture), picture.size, (600, 600))
    assert left <= 100
    assert left + 600 >= 520


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (33, 40)])
def test_tiny_pages_have_a_focus(size: tuple[int, int]) -> None:
    picture = Picture(np.full((size[1], size[0], 3), 200, dtype=np.uint8))
    side = min(size)
    left, top = choose_crop(find_interest(picture), size, (side, side))
    assert 0 <= left <= size[0] - side
    assert 0 <= top <= size[1] - side


def test_the_bundled_detectors_are_the_published_files() -> None:
    files: dict[str, Path] = {"yunet": CLASSIFIER.yunet, "lbpcascade-animeface": CLASSIFIER.cascade}
    for name, path in files.items():
        assert file_digest(path) == CARDS[name].sha256
