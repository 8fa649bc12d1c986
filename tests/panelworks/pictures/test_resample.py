import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelworks.pictures import Picture, fit_size, resize
from panelworks.pictures.picture import PictureCache
from panelworks.pictures.resample import fill_transparent, resize_part
from tests.pages import drawn


@pytest.mark.parametrize(
    ("size", "box", "fitted"),
    [
        ((4000, 6000), (1024, 1024), (683, 1024)),
        ((500, 400), (1024, 1024), (500, 400)),
        ((690, 30_000), (1440, None), (690, 30_000)),
        ((2000, 30_000), (1440, None), (1440, 21_600)),
        ((10_000, 1), (100, 100), (100, 1)),
        ((1920, 1080), (1280, 720), (1280, 720)),
    ],
)
def test_fitting_keeps_the_aspect_ratio_and_never_enlarges(
    size: tuple[int, int], box: tuple[int | None, int | None], fitted: tuple[int, int]
) -> None:
    assert fit_size(size, box) == fitted


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 3000))
def test_a_fitted_size_lies_inside_the_box(width: int, height: int, box_width: int, box_height: int) -> None:
    fitted = fit_size((width, height), (box_width, box_height))
    assert 1 <= fitted[0] <= min(width, box_width)
    assert 1 <= fitted[1] <= min(height, box_height)


def test_resizing_gives_the_exact_size_and_keeps_gray() -> None:
    resized = resize(drawn(50, 40, "ink"), (77, 33))
    assert resized.size == (77, 33)
    assert resized.is_gray


def test_hidden_black_does_not_bleed_into_the_figure() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    alpha = np.zeros((32, 32), np.uint8)
    pixels[8:24, 8:24], alpha[8:24, 8:24] = 200, 255
    enlarged = resize(Picture(pixels, alpha), (64, 64))
    assert enlarged.alpha is not None
    # Where next to nothing shows, eight bits of weighted colour say little; it shows next to nothing.
    assert enlarged.pixels[enlarged.alpha > 64].min() >= 198


def test_filling_changes_only_hidden_pixels() -> None:
    picture = drawn(33, 21)
    alpha = np.zeros((21, 33), np.uint8)
    alpha[5:9, 4:30] = 120
    filled = fill_transparent(Picture(picture.pixels, alpha))
    assert np.array_equal(filled.pixels[alpha > 0], picture.pixels[alpha > 0])
    assert filled.pixels[alpha == 0].any()


def test_the_cache_removes_the_oldest_pictures() -> None:
    page = drawn(10, 10)
    memory = PictureCache(2 * page.nbytes)
    for name in "abc":
        memory.put(name, page)
    assert memory.get("a") is None
    assert memory.get("b") is not None
    memory.put("huge", drawn(100, 100))
    assert memory.get("huge") is None
    assert memory.get("c") is not None


@pytest.mark.parametrize("size", [(400, 500), (160, 200), (123, 77), (800, 1000)])
@pytest.mark.parametrize("gray", [False, True])
def test_a_part_is_that_of_the_whole_resized(size: tuple[int, int], gray: bool) -> None:
    page = drawn(200, 250, "ink" if gray else "colour")
    filter = "lanczos" if size[0] <= page.width else "bicubic"
    whole = resize(page, size, filter)
    for left, top in ((0, 0), (size[0] // 3, size[1] // 2), (size[0] - 40, size[1] - 30)):
        part = resize_part(page, size, (left, top, 40, 30))
        expected = whole.region(left, top, 40, 30)
        assert part.size == (40, 30)
        assert np.abs(part.pixels.astype(int) - expected.pixels.astype(int)).max() <= 1
