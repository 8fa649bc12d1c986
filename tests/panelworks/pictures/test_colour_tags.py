"""Colour spaces stated by numbers, compared with littleCMS and closed formulas."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from panelworks.pictures import decode
from panelworks.settings import Settings
from tests.pages import file_of

LIMITS = Settings()
COLOURS = np.random.default_rng(2).integers(0, 256, (32, 48, 3)).astype(np.uint8)
RAMP = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def tagged(image: Image.Image | bytes, **chunks: bytes) -> bytes:
    data = image if isinstance(image, bytes) else file_of(image)
    added = b"".join(
        struct.pack(">I", len(payload))
        + name.encode()
        + payload
        + struct.pack(">I", zlib.crc32(name.encode() + payload))
        for name, payload in chunks.items()
    )
    return data[:33] + added + data[33:]


def gamma(value: int) -> bytes:
    return struct.pack(">I", value)


def srgb_of(linear: npt.NDArray[Any]) -> npt.NDArray[Any]:
    clipped = np.clip(linear, 0, 1)
    encoded: npt.NDArray[Any] = np.where(
        clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055
    )
    return encoded * 255


def linear_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values = values / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ({"gAMA": gamma(100_000)}, srgb_of(RAMP / 255)),
        ({"gAMA": gamma(55_556)}, srgb_of((RAMP / 255) ** 1.8)),
        ({"gAMA": gamma(45_455)}, RAMP),
        ({"gAMA": gamma(0)}, RAMP),
        ({"gAMA": gamma(100_000), "sRGB": b"\x00"}, RAMP),
        ({"cICP": b"\x01\x08\x00\x01", "sRGB": b"\x00"}, srgb_of(RAMP / 255)),
        ({"cICP": b"\x01\x0d\x00\x01", "gAMA": gamma(100_000)}, RAMP),
        ({"cICP": b"\xff\xff\x00\x01", "gAMA": gamma(100_000)}, srgb_of(RAMP / 255)),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_gray_follows_the_stated_curve(
    chunks: dict[str, bytes], expected: npt.NDArray[Any], deep: bool
) -> None:
    image = Image.fromarray(RAMP.astype(np.uint16) * 257 if deep else RAMP)
    decoded = decode(tagged(image, **chunks), LIMITS)
    assert decoded.picture.is_gray
    assert np.abs(decoded.picture.pixels[:, :, 0] - expected).max() <= 0.51
    assert any("converted to sRGB" in note for note in decoded.notes) == (not np.array_equal(expected, RAMP))


@pytest.mark.parametrize(
    "chunks", [{"cICP": b"\x0c\x0d\x00\x01"}, {"cHRM": P3, "gAMA": gamma(45_455)}, {"cHRM": P3}]
)
def test_display_p3_matches_the_matrices_of_csswg(chunks: dict[str, bytes]) -> None:
    matrix = np.array(
        [
            [1.2249401762, -0.2249401762, 0],
            [-0.0420569547, 1.0420569547, 0],
            [-0.0196375546, -0.0786360456, 1.0982736001],
        ]
    )
    expected = srgb_of(linear_of(COLOURS) @ matrix.T)
    decoded = decode(tagged(Image.fromarray(COLOURS), **chunks), LIMITS)
    assert np.abs(decoded.picture.pixels - expected).max() <= 1
    assert decoded.notes[0].startswith("converted to sRGB from")


def test_deep_colour_is_converted_before_it_is_reduced() -> None:
    deep = np.random.default_rng(3).integers(0, 3000, (16, 16, 3)).astype(np.uint16)
    data = bytes(cv2.imencode(".png", deep[:, :, ::-1])[1])
    decoded = decode(tagged(data, gAMA=gamma(100_000)), LIMITS)
    assert np.abs(decoded.picture.pixels - srgb_of(deep / 65535)).max() <= 0.51


def test_a_profile_outranks_chrm_and_cicp_outranks_a_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = file_of(Image.fromarray(COLOURS), icc_profile=profile)
    kept = decode(tagged(data, gAMA=gamma(100_000), cHRM=P3), LIMITS)
    assert np.abs(kept.picture.pixels.astype(int) - COLOURS).max() <= 1
    coded = decode(tagged(data, cICP=b"\x01\x08\x00\x01"), LIMITS)
    assert np.abs(coded.picture.pixels - srgb_of(COLOURS / 255)).max() <= 0.51


def test_usual_values_have_no_effect() -> None:
    for chunks in ({"cHRM": SRGB, "gAMA": gamma(45_455)}, {"cHRM": bytes(32)}, {"cHRM": b"\xff" * 32}):
        decoded = decode(tagged(Image.fromarray(COLOURS), **chunks), LIMITS)
        assert np.array_equal(decoded.picture.pixels, COLOURS)
        assert decoded.notes == ()


def test_the_palette_of_a_png_is_converted_too() -> None:
    image = Image.fromarray(COLOURS).quantize(32)
    plain = np.asarray(image.convert("RGB"))
    decoded = decode(tagged(image, gAMA=gamma(100_000)), LIMITS)
    assert np.abs(decoded.picture.pixels - srgb_of(plain / 255)).max() <= 0.51


def test_adobe_rgb_of_exif_is_converted() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    image = Image.new("RGB", (16, 16), (128, 200, 128))
    marked = decode(file_of(image, "JPEG", exif=exif, quality=95), LIMITS)
    if not marked.notes:
        pytest.skip("this Pillow does not write an interoperability directory")
    plain = decode(file_of(image, "JPEG", quality=95), LIMITS)
    assert marked.notes == ("converted to sRGB from Adobe RGB",)
    assert marked.picture.pixels[0, 0, 0] < plain.picture.pixels[0, 0, 0]


def test_lab_and_deep_gray_with_a_profile_match_the_other_files(assets: Path) -> None:
    pages = {
        name: decode((assets / "faults" / "tiff" / f"{name}.tif").read_bytes(), LIMITS).picture
        for name in ("01-lzw", "13-lab8", "15-gray8-linear-profile", "16-gray16-linear-profile")
    }
    truth = pages["01-lzw"]
    assert np.abs(pages["13-lab8"].rgb().astype(int) - truth.rgb()).mean() < 1
    for name in ("15-gray8-linear-profile", "16-gray16-linear-profile"):
        assert np.abs(pages[name].luma().astype(int) - truth.luma()).mean() < 0.5, name


def fixed(*numbers: float) -> bytes:
    """Numbers as ICC's s15Fixed16."""
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def test_a_gray_curve_matches_littlecms() -> None:
    """Of the profile in the assets only one form of curve is seen: the others are built here."""
    from panelworks.pictures.colour_tags import gray_curve

    values = np.linspace(0, 1, 11, dtype=np.float32)
    for curve, expected in (
        (b"curv" + bytes(4) + struct.pack(">I", 0), values),
        (b"curv" + bytes(4) + struct.pack(">IH", 1, 512), values**2),
        (b"curv" + bytes(4) + struct.pack(">I3H", 3, 0, 16384, 65535), np.interp(values, [0, 0.5, 1], [0, 0.25, 1])),
        (b"para" + bytes(4) + b"\x00\x00\x00\x00" + fixed(1.8), values**1.8),
        (b"para" + bytes(4) + b"\x00\x03\x00\x00" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
         linear_of(values * 255)),
    ):  # fmt: skip
        profile = bytes(128) + struct.pack(">I", 1) + b"kTRC" + struct.pack(">II", 144, len(curve)) + curve
        read = gray_curve(profile)
        assert read is not None
        assert np.allclose(read(values), expected, atol=1e-3)
    assert gray_curve(b"") is gray_curve(io.BytesIO(b"no profile").getvalue()) is None
