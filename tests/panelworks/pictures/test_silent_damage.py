"""Damage that a decoder does not report: streams that are too short, code words that it skips."""

import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import decode
from panelworks.settings import Settings
from tests.pages import drawn, file_of

LIMITS = Settings()
PAGE: Final = drawn(160, 121).pixels
BLACK_END: Final = np.concatenate([PAGE, np.zeros((2, 160, 3), np.uint8)])
ADAM7: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def rows_of(pixels: npt.NDArray[np.uint8], interlaced: bool = False) -> bytes:
    """The rows as PNG stores them, each with filter 0."""
    passes = [pixels[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [pixels]
    return b"".join(b"\x00" + row.tobytes() for one in passes if one.size for row in one)


def png(stream: bytes, pixels: npt.NDArray[np.uint8], interlaced: bool = False, bits: int = 8) -> bytes:
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if pixels.ndim == 3 else 0, 0, 0, interlaced)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", stream), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    "pixels", [PAGE, BLACK_END, PAGE[:1], PAGE[:2, :1], PAGE[:, :, 0], np.zeros_like(PAGE)]
)
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_stream_must_have_all_rows(pixels: npt.NDArray[np.uint8], interlaced: bool) -> None:
    rows = rows_of(pixels, interlaced)
    whole = decode(png(zlib.compress(rows), pixels, interlaced), LIMITS).picture
    assert whole.damage is None
    assert np.array_equal(whole.rgb(), pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, axis=2))
    for missing in (1, len(rows) // 2):
        with pytest.raises(Rejected) as caught:
            decode(png(zlib.compress(rows[:-missing]), pixels, interlaced), LIMITS)
        assert caught.value.code == "truncated", missing


def test_a_16_bit_png_of_another_space_must_hold_all_rows() -> None:
    deep = PAGE.astype(">u2").view(np.uint8).reshape(121, 320, 3)
    rows = b"".join(b"\x00" + row.tobytes() for row in PAGE.astype(">u2"))
    linear = chunk(b"gAMA", struct.pack(">I", 100_000))
    data = png(zlib.compress(rows[: len(rows) // 2]), PAGE, bits=16)
    assert deep.size == len(rows) - 121
    with pytest.raises(Rejected) as caught:
        decode(data[:33] + linear + data[33:], LIMITS)
    assert caught.value.code in ("truncated", "damaged")


@pytest.mark.parametrize("checksum", [b"abcd", b"\x00\x00\x00\x00"])
def test_a_wrong_checksum_of_a_png_stream_is_damage_and_not_a_refusal(checksum: bytes) -> None:
    picture = decode(png(zlib.compress(rows_of(PAGE))[:-4] + checksum, PAGE), LIMITS).picture
    assert picture.damage == "the checksum of the compressed pixels is wrong"
    assert np.array_equal(picture.pixels, PAGE)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_bad_code_words_of_a_fax_are_damage(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(
        file_of(Image.fromarray(drawn(640, 480).pixels).convert("1"), "TIFF", compression=compression)
    )
    assert decode(bytes(data), LIMITS).picture.damage is None
    data[len(data) // 3 : len(data) // 3 + 4] = b"\x00\x55\x00\xaa"
    picture = decode(bytes(data), LIMITS).picture
    assert picture.damage and picture.damage.startswith("libtiff reports: bad code word at line ")
    assert capfd.readouterr().err == ""


def test_the_refusal_of_a_tiff_has_the_message_of_libtiff(capfd: pytest.CaptureFixture[str]) -> None:
    data = file_of(Image.fromarray(PAGE), "TIFF", compression="tiff_lzw")
    with pytest.raises(Rejected, match="libtiff reports: ") as caught:
        decode(data[:400] + bytes(400) + data[800:], LIMITS)
    assert caught.value.code == "damaged"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("pixels", [PAGE, PAGE[:, :, :1]])
@pytest.mark.parametrize(("descriptor", "opacity"), [(0x20, 0), (0x20, 90), (0x28, 0)])
def test_a_tga_without_alpha_is_opaque(pixels: npt.NDArray[np.uint8], descriptor: int, opacity: int) -> None:
    height, width, channels = pixels.shape
    kind = 2 if channels == 3 else 3
    stored = np.dstack([pixels[:, :, ::-1], np.full((height, width), opacity, np.uint8)])
    header = struct.pack(
        "<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, width, height, 8 * (channels + 1), descriptor
    )
    decoded = decode(header + stored.tobytes(), LIMITS)
    assert decoded.picture.alpha is None
    assert np.array_equal(decoded.picture.pixels, pixels)
    noted = ("an alpha channel that is zero everywhere was ignored",)
    assert decoded.notes == (noted if descriptor & 15 else ())


def test_a_tga_with_alpha_keeps_it() -> None:
    image = Image.fromarray(PAGE)
    image.putalpha(image.convert("L"))
    assert decode(file_of(image, "TGA"), LIMITS).picture.alpha is not None
