"""Pages fitted to their target, strips cut at their gutters."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panelworks.books.binding import blank_rows, cut_page, parts_of
from panelworks.books.metadata import xmp_packet
from panelworks.domain.books import BookOptions, PageSpec
from panelworks.pictures import FORMAT_SIDE_LIMITS, Picture, PictureFormat
from tests.pages import drawn


def strip(panels: int, height: int, gutter: int, width: int = 40) -> Picture:
    """Panels of noise between white gutters."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(panels):
        rows.append(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        rows.append(np.full((gutter, width, 3), 250, np.uint8))
    return Picture(np.concatenate(rows[:-1]))


def test_a_page_that_fits_is_one_part() -> None:
    assert parts_of(strip(3, 100, 10), 1000) == [(0, 320)]


def test_a_strip_is_cut_in_the_middle_of_gutters() -> None:
    page = strip(5, 100, 10)
    assert parts_of(page, 250) == [(0, 215), (215, 435), (435, 540)]


def test_a_strip_without_gutters_is_not_cut() -> None:
    page = Picture(np.random.default_rng(0).integers(0, 256, (500, 40, 3), dtype=np.uint8))
    assert parts_of(page, 100) == [(0, 500)]


def test_a_blank_strip_is_cut_too() -> None:
    parts = parts_of(Picture(np.full((500, 40, 3), 255, np.uint8)), 100)
    assert parts[0][0] == 0
    assert parts[-1][1] == 500
    assert all(bottom - top <= 100 for top, bottom in parts)


def test_blank_rows_bear_a_little_noise_but_no_line() -> None:
    pixels = np.full((4, 50, 3), 240, np.uint8)
    pixels[1, 20] = 246
    pixels[2, 20] = 100
    assert blank_rows(Picture(pixels)).tolist() == [True, True, False, True]


def test_the_parts_put_together_are_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMAT_SIDE_LIMITS, "png", 250)
    page = strip(5, 100, 10)
    spec = PageSpec(format="png", quality=90, width=None, height=None, xmp=False)
    parts = [np.asarray(Image.open(io.BytesIO(part.data))) for part in cut_page(page, spec, None)]
    assert len(parts) == 3
    assert np.array_equal(np.concatenate(parts), page.pixels)


def test_a_strip_that_cannot_be_cut_takes_a_format_that_holds_it() -> None:
    page = Picture(np.random.default_rng(0).integers(0, 256, (17_000, 8, 3), dtype=np.uint8))
    (part,) = cut_page(page, PageSpec(format="webp", quality=80, width=None, height=None, xmp=False), None)
    assert (part.format, part.size) == ("jpeg", (8, 17_000))


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif", "png"])
def test_provenance_is_readable_from_every_format(format: PictureFormat, tmp_path: Path) -> None:
    spec = PageSpec(format=format, quality=90, width=None, height=None, xmp=True)
    (part,) = cut_page(drawn(), spec, xmp_packet(None, "key-of-the-page"))
    with Image.open(io.BytesIO(part.data)) as image:
        found = image.info["xmp"]
    assert b"key-of-the-page" in (found if isinstance(found, bytes) else found.encode())


@pytest.mark.parametrize(
    ("options", "size", "scale"),
    [
        (BookOptions(), (1000, 1500), None),
        (BookOptions(longest_side=3000), (1000, 1500), 2.0),
        (BookOptions(longest_side=1000), (1000, 1500), 1.0),
        (BookOptions(longest_side=9000), (1000, 1500), 4.0),
        (BookOptions(height=1872), (2000, 1500), 1.248),
        (BookOptions(height=3000, longest_side=2000), (1000, 1500), 1.3333),
    ],
)
def test_the_scale_follows_from_the_target(
    options: BookOptions, size: tuple[int, int], scale: float | None
) -> None:
    assert options.for_page(size).scale == scale


@pytest.mark.parametrize(
    ("source", "wanted", "written"),
    [("jpeg", "same", "jpeg"), ("gif", "same", "png"), ("tiff", "same", "png"), ("png", "webp", "webp")],
)
def test_the_format_of_a_page(source: str, wanted: str, written: str) -> None:
    assert BookOptions.model_validate({"format": wanted}).spec_for(source).format == written
