import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile

from panelworks.errors import Rejected
from panelworks.pictures import decode, read_header
from panelworks.settings import Settings
from tests.pages import SAMPLE_PAGES, drawn, file_of

LIMITS = Settings()
RAMP = np.tile(np.linspace(0, 255, 64).round().astype(np.uint8), (32, 1))


def colour() -> Image.Image:
    return Image.fromarray(drawn(64, 48).pixels)


@pytest.mark.parametrize(
    ("mode", "format", "gray"),
    [
        ("1", "PNG", True),
        ("L", "PNG", True),
        ("L", "JPEG", True),
        ("LA", "PNG", True),
        ("P", "PNG", False),
        ("P", "GIF", False),
        ("RGB", "PNG", False),
        ("RGB", "BMP", False),
        ("RGB", "PPM", False),
        ("RGB", "AVIF", False),
        ("RGBA", "WEBP", False),
        ("CMYK", "JPEG", False),
        ("CMYK", "TIFF", False),
        ("YCbCr", "JPEG", False),
    ],
)
def test_every_mode_becomes_colour_or_gray(mode: str, format: str, gray: bool) -> None:
    picture = decode(file_of(colour().convert(mode), format), LIMITS).picture
    assert picture.size == (64, 48)
    assert picture.is_gray == gray
    assert picture.pixels.dtype == np.uint8


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    decoded = decode(file_of(deep), LIMITS)
    assert np.array_equal(decoded.picture.pixels[:, :, 0], RAMP)
    assert decoded.notes == ("reduced to 8 bits a channel",)


def test_a_dark_sixteen_bit_page_stays_dark() -> None:
    dark = Image.fromarray(np.full((8, 8), 200, dtype=np.uint16))
    assert decode(file_of(dark), LIMITS).picture.pixels.max() == 1


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (255.0, 0.0)])
def test_float_values_of_a_known_range_are_read(scale: float, offset: float) -> None:
    values = RAMP.astype(np.float32) / 255 * scale + offset
    picture = decode(file_of(Image.fromarray(values), "TIFF"), LIMITS).picture
    assert np.array_equal(picture.pixels[:, :, 0], RAMP)


def test_float_values_of_an_unknown_range_are_refused() -> None:
    with pytest.raises(Rejected) as caught:
        decode(file_of(Image.fromarray(np.full((4, 4), -3.0, np.float32)), "TIFF"), LIMITS)
    assert caught.value.code == "unsupported_format"


def test_a_colour_page_without_colour_is_gray() -> None:
    assert decode(file_of(Image.fromarray(RAMP).convert("RGB")), LIMITS).picture.is_gray


def test_alpha_is_kept_and_an_opaque_one_dropped() -> None:
    soft = colour()
    soft.putalpha(Image.fromarray(np.full((48, 64), 90, np.uint8)))
    kept = decode(file_of(soft), LIMITS).picture
    assert kept.alpha is not None
    assert (kept.alpha == 90).all()
    assert decode(file_of(colour().convert("RGBA")), LIMITS).picture.alpha is None


def test_a_palette_with_transparency_has_alpha() -> None:
    palette = colour().quantize(16)
    decoded = decode(file_of(palette, transparency=0), LIMITS).picture
    assert decoded.alpha is not None
    assert set(np.unique(decoded.alpha)) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_once(orientation: int) -> None:
    upright = np.zeros((40, 30, 3), np.uint8)
    upright[:20, :15] = (255, 0, 0)
    undo: dict[int, Any] = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(stored, exif=exif)
    header, picture = read_header(data, LIMITS), decode(data, LIMITS).picture
    assert (header.width, header.height) == picture.size == (30, 40)
    assert np.array_equal(picture.pixels, upright)


def test_a_rotated_tiff_has_one_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(file_of(Image.new("RGB", (50, 20), "red"), "TIFF", exif=exif), LIMITS)
    assert (decoded.header.width, decoded.header.height) == decoded.picture.size == (20, 50)


def test_deep_gray_with_zero_as_white_is_not_inverted() -> None:
    data = file_of(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(decode(data, LIMITS).picture.pixels[:, :, 0], 255 - RAMP)


def test_a_profile_is_converted_to_srgb() -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = decode(file_of(colour(), icc_profile=lab_like), LIMITS)
    assert plain.notes == ()
    assert np.abs(plain.picture.pixels.astype(int) - drawn(64, 48).pixels).max() <= 1


def test_an_unsuitable_profile_is_ignored_with_a_note() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile_bytes in (srgb, b"no profile at all"):
        decoded = decode(file_of(Image.fromarray(RAMP), icc_profile=profile_bytes), LIMITS)
        assert decoded.notes == ("unusable colour profile ignored",)
        assert np.array_equal(decoded.picture.pixels[:, :, 0], RAMP)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_used_with_a_note(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "green", "blue")]
    data = file_of(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    decoded = decode(data, LIMITS)
    assert "first of 3 frames" in decoded.notes[0]
    assert decoded.picture.pixels[0, 0].tolist() == [255, 0, 0]


def test_too_many_frames_are_refused() -> None:
    frames = [Image.new("RGB", (4, 4), (n, 0, 0)) for n in range(70)]
    with pytest.raises(Rejected) as caught:
        decode(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]), LIMITS)
    assert caught.value.code == "too_many_frames"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, this is text", "unsupported_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format"),
        (b"PK\x03\x04" + bytes(40), "archive"),
        (b"Rar!\x1a\x07\x01\x00", "archive"),
        (b"7z\xbc\xaf\x27\x1c", "archive"),
        (b"%PDF-1.7", "archive"),
        (file_of(Image.new("RGB", (64, 64), "red"), "JPEG")[:-40], "truncated"),
        (file_of(colour())[:900], "truncated"),
    ],
)
def test_other_files_are_refused_with_a_code(data: bytes, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        decode(data, LIMITS)
    assert caught.value.code == code
    assert caught.value.message.endswith(".")


def test_the_pixel_limit_applies_to_width_times_height() -> None:
    limits = LIMITS.model_copy(update={"max_pixels": 10_000})
    assert decode(file_of(Image.new("L", (9_999, 1))), limits).picture.width == 9_999
    with pytest.raises(Rejected) as caught:
        read_header(file_of(Image.new("L", (101, 100))), limits)
    assert caught.value.code == "too_large"


def test_the_byte_limit_is_checked_first() -> None:
    with pytest.raises(Rejected) as caught:
        decode(b"x" * 101, LIMITS.model_copy(update={"max_source_bytes": 100}))
    assert caught.value.code == "too_large"


def test_a_timeout_while_decoding_is_not_reported_as_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(ImageFile.ImageFile, "load", slow)
    with pytest.raises(TimeoutError):
        decode(file_of(colour(), "BMP"), LIMITS)


def test_pillows_own_limit_is_unchanged() -> None:
    before = Image.MAX_IMAGE_PIXELS
    decode(file_of(colour()), LIMITS)
    assert before == Image.MAX_IMAGE_PIXELS


@profile(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"]),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=12),
)
def test_damaged_files_are_read_or_refused(format: str, place: int, junk: bytes) -> None:
    data = bytearray(file_of(Image.fromarray(drawn(24, 20).pixels), format))
    place %= len(data)
    data[place : place + len(junk)] = junk
    try:
        decoded = decode(bytes(data), LIMITS.model_copy(update={"max_pixels": 1_000_000}))
    except Rejected as error:
        assert error.message
    else:
        assert decoded.picture.width >= 1


def assert_size_is_that_of_pillow(path: Path) -> None:
    picture = decode(path.read_bytes(), LIMITS).picture
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert picture.size == image.size


@pytest.mark.parametrize("path", SAMPLE_PAGES, ids=lambda path: path.stem)
def test_sample_pages_are_read(path: Path) -> None:
    assert_size_is_that_of_pillow(path)


def test_real_pages_are_read(assets: Path) -> None:
    for path in sorted((assets / "pages").glob("*.*")):
        if path.suffix in (".png", ".jpg", ".webp"):
            assert_size_is_that_of_pillow(path)


@pytest.mark.parametrize(
    ("dtype", "channels", "read"),
    [
        ("uint8", 1, True),
        ("uint8", 3, True),
        ("uint8", 4, True),
        ("uint16", 1, True),
        ("uint16", 3, False),
        ("uint16", 4, False),
    ],
)
@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_deep_pictures_have_a_limit_in_bytes(extension: str, dtype: str, channels: int, read: bool) -> None:
    """Before, 196 megapixels of 16-bit colour took 3.1 GB."""
    pixels = np.full((100, 100, channels), 77, dtype)
    done, data = cv2.imencode(extension, pixels[:, :, 0] if channels == 1 else pixels)
    assert done
    limits = Settings().model_copy(update={"max_pixels": 10_000})
    if read:
        assert decode(data.tobytes(), limits).header.width == 100
        return
    with pytest.raises(Rejected, match=r"pixels of (48|64) bits") as refused:
        decode(data.tobytes(), limits)
    assert refused.value.code == "too_large"
    enough = limits.model_copy(update={"max_pixels": 20_000})
    assert decode(data.tobytes(), enough).header.width == 100
