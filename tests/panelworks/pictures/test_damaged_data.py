"""Damage of the compressed data is reported; damage of descriptive data is ignored."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panelworks import EnhanceOptions, enhance_picture
from panelworks.errors import Rejected
from panelworks.pictures import decode
from panelworks.settings import Settings
from tests.pages import drawn, file_of

LIMITS = Settings()
NOISE = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)


def page() -> Image.Image:
    return Image.fromarray(drawn(320, 240).pixels)


def with_hole(data: bytes, share: float = 0.6, size: int = 900) -> bytes:
    at = int(len(data) * share)
    return data[:at] + bytes(size) + data[at + size :]


def without(data: bytes, share: float = 0.6, size: int = 900) -> bytes:
    at = int(len(data) * share)
    return data[:at] + data[at + size :]


def first_scans(data: bytes, scans: int) -> bytes:
    places = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    return data[: places[scans]] + b"\xff\xd9"


def chunk(kind: bytes, payload: bytes, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(kind + payload) if checksum is None else checksum
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc)


def png_with(chunks: bytes) -> bytes:
    """A PNG with chunks between its header and its pixels."""
    data = file_of(page())
    return data[:33] + chunks + data[33:]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("hole", with_hole(file_of(page(), "JPEG"))),
        ("bytes missing", without(file_of(page(), "JPEG"))),
        ("end marker inside", with_hole(file_of(page(), "JPEG"), size=0)[:-900] + b"\xff\xd9" + bytes(900)),
        ("gray", with_hole(file_of(page().convert("L"), "JPEG"))),
        ("CMYK", without(file_of(page().convert("CMYK"), "JPEG"))),
        ("progressive, hole", with_hole(file_of(page(), "JPEG", progressive=True))),
        ("progressive, one scan", first_scans(file_of(page(), "JPEG", progressive=True), 1)),
        ("progressive, last scan missing", first_scans(file_of(page(), "JPEG", progressive=True), 9)),
        ("WebP, hole", with_hole(file_of(page(), "WEBP", quality=90))),
        ("WebP with alpha, hole", with_hole(file_of(page().convert("RGBA"), "WEBP", quality=90), 0.8)),
        ("PNG, checksum", file_of(page())[:60] + b"\x00" + file_of(page())[61:]),
    ],
)
def test_damage_inside_the_data_is_reported_or_refused(name: str, data: bytes) -> None:
    try:
        assert decode(data, LIMITS).picture.damage, name
    except Rejected as error:
        assert error.code in ("damaged", "truncated")
        assert name.startswith(("PNG", "WebP with alpha"))


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("pixels", [page(), Image.fromarray(NOISE), Image.new("RGB", (33, 17), "white")])
@pytest.mark.parametrize(
    "parameters",
    [
        {"quality": 5}, {"quality": 75, "method": 0}, {"quality": 100, "optimize": True, "method": 6},
        {"quality": 80, "progressive": True, "subsampling": 0, "lossless": True},
        {"quality": 60, "restart_marker_blocks": 3, "subsampling": 1, "lossless": True, "method": 0},
    ],
)  # fmt: skip
def test_valid_files_are_not_reported_as_damaged(
    format: str, mode: str, pixels: Image.Image, parameters: dict[str, Any]
) -> None:
    if (format, mode) in (("JPEG", "RGBA"), ("WEBP", "CMYK")):
        pytest.skip("the format has no such mode")
    image = pixels.convert(mode)
    if mode == "RGBA":
        image.putalpha(pixels.convert("L"))
    data = file_of(image, format, **parameters)
    decoded = decode(data, LIMITS)
    assert decoded.picture.damage is None
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB" if mode != "RGBA" else "RGBA"))
    if mode == "RGB":
        assert np.array_equal(decoded.picture.rgb(), expected)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (file_of(page(), "JPEG")[:-2], "the end marker is missing"),
        (b"\n" + file_of(page(), "JPEG"), "1 bytes of white space before the picture were skipped"),
        (b"\r\n" + file_of(page()), "2 bytes of white space before the picture were skipped"),
        (b"\xef\xbb\xbf\n" + file_of(page(), "WEBP"), "4 bytes of white space before the picture were skipped"),
        (file_of(page())[:-12], "the end marker is missing"),
        (png_with(chunk(b"tEXt", b"a\x00b", checksum=1)), "the PNG chunk tEXt is damaged and was ignored"),
        (png_with(chunk(b"gAMA", b"")), "the PNG chunk gAMA is damaged and was ignored"),
        (png_with(chunk(b"pHYs", b"")), "the PNG chunk pHYs is damaged and was ignored"),
        (png_with(chunk(b"iCCP", b"x\x00\x00broken")), "unusable colour profile ignored"),
        (png_with(chunk(b"iCCP", b"x\x00\x00" + zlib.compress(bytes(2**21)))), "unusable colour profile ignored"),
        (png_with(chunk(b"zTXt", b"parameters\x00\x00" + zlib.compress(bytes(2**22)))), None),
        (png_with(chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(bytes(2**22)))), None),
        (png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00broken")), None),
        (file_of(page(), "JPEG")[:-2] + bytes(7) + b"\xff\xd9", None),
        (file_of(page(), "JPEG") + b"PK\x03\x04 trailing", None),
        (file_of(page(), "JPEG", icc_profile=b"broken"), "unusable colour profile ignored"),
    ],
)  # fmt: skip
def test_damage_is_decided_by_the_pixels(data: bytes, note: str | None) -> None:
    decoded = decode(data, LIMITS)
    assert decoded.picture.damage is None
    assert decoded.notes == ((note,) if note else ())
    assert decoded.picture.size == (320, 240)


def test_a_wrong_checksum_of_pixels_is_reported_as_damage() -> None:
    data = bytearray(file_of(page()))
    data[-13] ^= 1  # the last byte of the checksum of IDAT
    assert decode(bytes(data), LIMITS).picture.damage == "the checksum of a IDAT chunk is wrong"


def test_an_orientation_after_the_pixels_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(page())
    turned = data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:]
    decoded = decode(turned, LIMITS)
    assert (decoded.header.width, decoded.header.height) == decoded.picture.size == (240, 320)


def test_a_damaged_page_is_enhanced_only_on_request(tmp_path: Path) -> None:
    source = tmp_path / "page.jpg"
    source.write_bytes(with_hole(file_of(page(), "JPEG")))
    original = enhance_picture(source, tmp_path / "out")
    assert (original.status, original.route) == ("success", "couldn't_upscale")
    assert original.master and original.source and original.quality
    assert original.master.sha256 == original.source.sha256
    assert any(note.startswith("the file is damaged: ") for note in original.notes)
    assert original.quality.before.damage
    enhanced = enhance_picture(
        source, tmp_path / "out", options=EnhanceOptions(accept_damaged=True, model="lanczos")
    )
    assert enhanced.route != "good_quality"
    assert enhanced.content_key != original.content_key
    assert any(note.startswith("the file is damaged: ") for note in enhanced.notes)
