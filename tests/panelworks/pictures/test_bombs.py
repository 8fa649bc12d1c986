"""Small files with excessive claims and large files without content are refused by their structure."""

import struct
import zlib
from typing import Final

import numpy as np
import pytest
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import decode, read_header
from panelworks.settings import Settings
from tests.pages import drawn, file_of

LIMITS = Settings()
PAGE = drawn(64, 48).pixels
GIF: Final = b"GIF89a\x10\x00\x10\x00\x80\x00\x00" + bytes(6)
FRAME: Final = b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00"
IHDR: Final = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)


def empty_scans(count: int) -> bytes:
    """A progressive JPEG of 64 megapixels with many scans."""
    frame = b"\xff\xc2\x00\x0b\x08" + struct.pack(">HH", 8000, 8000) + b"\x01\x01\x11\x00"
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00" * count + b"\xff\xd9"


def small_png(kind: bytes, count: int) -> bytes:
    """A PNG with many empty chunks of a kind."""
    empty = bytes(4) + kind + struct.pack(">I", zlib.crc32(kind))
    page = file_of(Image.fromarray(PAGE))
    return page[:33] + empty * count + page[33:]


def canvas(width: int, height: int) -> bytes:
    """An animated WebP whose frame is much smaller than its canvas."""
    still = file_of(Image.new("RGB", (8, 8)), "WEBP")[12:]
    frame = bytes(6) + b"\x07\x00\x00\x07\x00\x00" + bytes(4) + still
    extended = b"\x02\x00\x00\x00" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + extended + b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (empty_scans(60), "out_of_proportion"),
        (canvas(14_000, 14_000), "out_of_proportion"),
        (b"\xff\xd8" + b"\xff\xfe\x00\x02" * 20_000, "out_of_proportion"),
        (b"\xff\xd8" + b"\xff" * 200_000, "truncated"),
        (b"\xff\xd8\xff\xe0\x00\x02" + b"\xff\x00" * 100_000, "truncated"),
        (b"\xff\xd8\xff\xe0\x00\x02" + b"\xff\x00" * 100_000 + file_of(Image.fromarray(PAGE), "JPEG")[2:], "out_of_proportion"),
        (b"P6\n#" + b"a" * 100_000 + b"\n1 1\n255\nabc", "out_of_proportion"),
        (b"P2\n14000 14000\n255\n1 2", "truncated"),
        (b"P3\n2 1\n255\n1 2 3 4 5 x", "damaged"),
        (GIF + b"!\xfe" + b"\x01a" * 400_000 + b"\x00;", "out_of_proportion"),
        (GIF + FRAME * 100_000 + b";", "too_many_frames"),
        (b"GIF89a" + struct.pack("<HH", 14_000, 14_000) + b"\x80\x00\x00" + bytes(6) + FRAME + b";", "out_of_proportion"),
        (b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 9, 9, 1, 8, 1) + bytes(5 << 20), "too_large"),
        (small_png(b"tEXt", 3_000), "out_of_proportion"),
        (small_png(b"IDAT", 60_000), "out_of_proportion"),
        (
            b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + IHDR + struct.pack(">I", zlib.crc32(b"IHDR" + IHDR))
            + bytes(4) * 3 * 400_000, "out_of_proportion",
        ),
    ],
)  # fmt: skip
def test_excessive_structures_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_header(data, LIMITS)
    assert caught.value.code == code


@pytest.mark.parametrize("most", [255, 1000])
def test_plain_pixmaps_are_read(most: int) -> None:
    values = (PAGE.astype(int) * most + 127) // 255
    rows = "\n".join(" ".join(str(value) for value in row) for row in values.reshape(48, -1))
    picture = decode(f"P3 # colour\n64 48\n# of this range\n{most}\n{rows}\n".encode(), LIMITS).picture
    assert np.abs(picture.pixels.astype(int) - PAGE).max() <= 1
    gray = "\n".join(" ".join(str(value) for value in row) for row in values[:, :, 0])
    picture = decode(f"P2\n64 48 {most}\n{gray}# the end".encode(), LIMITS).picture
    assert np.abs(picture.pixels[:, :, 0].astype(int) - PAGE[:, :, 0]).max() <= 1


def test_a_plain_bitmap_is_read() -> None:
    bits = PAGE[:, :61, 0] < 128
    text = "\n".join("".join("1" if bit else "0" for bit in row) for row in bits)
    picture = decode(f"P1\n61 48\n{text}".encode(), LIMITS).picture
    assert np.array_equal(picture.pixels[:, :, 0] == 0, bits)
