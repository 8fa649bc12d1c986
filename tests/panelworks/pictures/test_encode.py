import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from panelworks.domain.formats import format_that_holds
from panelworks.errors import Rejected
from panelworks.pictures import Picture, PictureFormat, decode, encode
from panelworks.settings import Settings
from tests.pages import drawn, psnr

LIMITS = Settings()


@pytest.mark.parametrize("look", ["colour", "ink"])
@pytest.mark.parametrize("transparent", [False, True])
def test_png_is_lossless(look: str, transparent: bool) -> None:
    picture = drawn(60, 44, "colour" if look == "colour" else "ink")
    if transparent:
        picture = Picture(picture.pixels, np.linspace(0, 254, 44 * 60).astype(np.uint8).reshape(44, 60))
    again = decode(encode(picture, "png"), LIMITS).picture
    assert np.array_equal(again.pixels, picture.pixels)
    assert (again.alpha is None) == (picture.alpha is None)
    if again.alpha is not None and picture.alpha is not None:
        assert np.array_equal(again.alpha, picture.alpha)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_gray_stays_exactly_gray(format: PictureFormat) -> None:
    gray = drawn(80, 60, "screentone")
    assert decode(encode(gray, format, 80), LIMITS).picture.is_gray


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_encoding_is_deterministic(format: PictureFormat) -> None:
    assert encode(drawn(seed=2), format, 90) == encode(drawn(seed=2), format, 90)


@pytest.mark.parametrize(("format", "least"), [("jpeg", 30.0), ("webp", 30.0)])
def test_lossy_formats_are_close_to_the_page(format: PictureFormat, least: float) -> None:
    picture = drawn(120, 90)
    assert psnr(decode(encode(picture, format, 90), LIMITS).picture.pixels, picture.pixels) > least


def test_jpeg_flattens_transparency_on_white() -> None:
    clear = Picture(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    assert decode(encode(clear, "jpeg", 90), LIMITS).picture.pixels.min() == 255


def test_webp_keeps_transparency() -> None:
    half = Picture(np.full((8, 8, 3), 40, np.uint8), np.full((8, 8), 128, np.uint8))
    again = decode(encode(half, "webp", 90), LIMITS).picture
    assert again.alpha is not None
    assert abs(int(again.alpha.mean()) - 128) <= 1


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_colour_carries_an_srgb_profile(format: PictureFormat) -> None:
    with Image.open(io.BytesIO(encode(drawn(), format, 90))) as image:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)


def test_gray_carries_no_colour_profile() -> None:
    with Image.open(io.BytesIO(encode(drawn(look="ink"), "png"))) as image:
        assert image.mode == "L"
        assert "icc_profile" not in image.info
        assert image.info["srgb"] == 0


@pytest.mark.parametrize(("format", "side"), [("jpeg", 65_536), ("webp", 16_384)])
def test_a_side_beyond_the_format_is_refused_before_encoding(format: PictureFormat, side: int) -> None:
    with pytest.raises(Rejected) as caught:
        encode(Picture(np.zeros((side, 1, 1), np.uint8)), format, 90)
    assert caught.value.code == "format_limit"


@pytest.mark.parametrize(
    ("height", "wanted", "given"),
    [(100, "webp", "webp"), (16_384, "webp", "jpeg"), (65_536, "webp", "png"), (65_536, "jpeg", "png")],
)
def test_a_format_that_holds_the_picture_is_found(
    height: int, wanted: PictureFormat, given: PictureFormat
) -> None:
    assert format_that_holds(10, height, wanted) == given
