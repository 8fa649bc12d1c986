import importlib
import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from panelworks.domain.formats import format_that_holds
from panelworks.errors import Rejected
from panelworks.pictures import Picture, PictureFormat, decode, encode
from panelworks.pictures.picture import from_image
from panelworks.settings import Settings
from tests.pages import drawn, psnr

encode_module = importlib.import_module("panelworks.pictures.encode")
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


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 60),
    channels=st.sampled_from([1, 3]),
    transparent=st.booleans(),
    band_bytes=st.integers(1, 4000),
    seed=st.integers(0, 9),
)
def test_png_of_any_shape_is_a_valid_file(
    width: int, height: int, channels: int, transparent: bool, band_bytes: int, seed: int
) -> None:
    """Checksums too, however the rows are divided into bands."""
    values = np.random.default_rng(seed).integers(0, 256 if seed % 2 else 3, (height, width, channels + 1))
    planes = values.astype(np.uint8)
    picture = Picture(planes[:, :, :channels].copy(), planes[:, :, channels].copy() if transparent else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module, "_PNG_BAND_BYTES", band_bytes)
        file = encode(picture, "png")
    parts = dict.fromkeys(["IHDR", "IDAT", "IEND"], b"")
    for kind, content in chunks_of(file):
        parts[kind] = parts.get(kind, b"") + content
    assert len(zlib.decompress(parts["IDAT"])) == height * (1 + width * (channels + transparent))
    with Image.open(io.BytesIO(file)) as image:
        again = from_image(image)
    assert np.array_equal(again.pixels, picture.pixels)
    if picture.alpha is not None:
        assert again.alpha is not None and np.array_equal(again.alpha, picture.alpha)


def chunks_of(file: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each chunk of a PNG file, whose checksum is correct."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    position = 8
    while position < len(file):
        (length,) = struct.unpack_from(">I", file, position)
        body = file[position + 4 : position + 8 + length]
        assert struct.unpack_from(">I", file, position + 8 + length)[0] == zlib.crc32(body)
        yield body[:4].decode(), body[4:]
        position += 12 + length


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
