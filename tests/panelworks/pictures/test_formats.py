"""Readable formats, and the names of others in error messages."""

import base64
import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import count_tiff_pages, decode, read_header, split_tiff
from panelworks.settings import Settings
from tests.pages import drawn, file_of

LIMITS = Settings()
PAGE = drawn(64, 48).pixels
tifffile = pytest.importorskip("tifffile")


def tiff(*pages: Any, **parameters: Any) -> bytes:
    """A TIFF of arrays, or of (array, parameters)."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **parameters) as writer:
        for one in pages:
            array, options = one if isinstance(one, tuple) else (one, {})
            writer.write(array, **options)
    return buffer.getvalue()


THUMBNAIL = (PAGE[::6, ::6], {"photometric": "rgb", "subfiletype": 1})
OTHER = (255 - PAGE, {"photometric": "rgb"})
FULL = (PAGE, {"photometric": "rgb"})
MASK = (PAGE[:, :, 0] > 128, {"subfiletype": 4})


@pytest.mark.parametrize(
    "parameters", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"byteorder": ">", "bigtiff": True}]
)
@pytest.mark.parametrize(
    ("pages", "count"),
    [([FULL], 1), ([FULL, OTHER], 2), ([THUMBNAIL, FULL], 1), ([FULL, THUMBNAIL, OTHER, MASK], 2)],
)
def test_pages_of_a_tiff_are_pages(pages: list[Any], count: int, parameters: dict[str, Any]) -> None:
    data = tiff(*pages, **parameters)
    decoded = decode(data, LIMITS)
    assert np.array_equal(decoded.picture.pixels, PAGE)
    assert decoded.header.frames == 1
    assert (f"the first of {count} pages" in " ".join(decoded.notes)) == (count > 1)
    assert "animated" not in " ".join(decoded.notes)
    assert count_tiff_pages(data, 64) == count
    split = [decode(page, LIMITS).picture.pixels for page in split_tiff(data, 64)]
    assert len(split) == count
    assert np.array_equal(split[0], PAGE)
    assert count == 1 or np.array_equal(split[1], 255 - PAGE)


def test_an_unmarked_preview_is_not_the_page() -> None:
    data = tiff((PAGE[::6, ::6], {"photometric": "rgb"}), FULL)
    assert np.array_equal(decode(data, LIMITS).picture.pixels, PAGE)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_compressed_page_is_extracted_unchanged(compression: str) -> None:
    images = [Image.fromarray(PAGE), Image.fromarray(255 - PAGE)]
    data = file_of(images[0], "TIFF", save_all=True, append_images=images[1:], compression=compression)
    pages = [decode(page, LIMITS).picture.rgb().astype(int) for page in split_tiff(data, 64)]
    for page, image in zip(pages, images, strict=True):
        assert np.abs(page - np.asarray(image)).mean() < 4


@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_deep_tiffs_that_pillow_does_not_read(compression: str | None, predictor: bool) -> None:
    options = {"compression": compression, "predictor": predictor and compression is not None}
    gray = np.ascontiguousarray(PAGE[:, :, 0])
    alpha = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    deep = np.stack([gray, alpha], axis=2).astype(np.uint16) * 257
    extra = {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"}
    decoded = decode(tiff((deep, {**options, **extra})), LIMITS)
    assert decoded.picture.alpha is not None
    assert np.array_equal(decoded.picture.pixels[:, :, 0], gray)
    assert np.array_equal(decoded.picture.alpha, alpha)
    colour = (PAGE / 255).astype(np.float32)
    options["predictor"] = False
    decoded = decode(tiff((colour, {**options, "photometric": "rgb"})), LIMITS)
    assert np.array_equal(decoded.picture.pixels, PAGE)
    assert decoded.notes == ("reduced to 8 bits a channel",)


def test_hostile_directories_are_refused_before_decoding() -> None:
    entry = struct.pack("<HHII", 256, 4, 1, 8)
    chain = b"".join(
        struct.pack("<H", 1) + entry + struct.pack("<I", 8 + (number + 1) * 18) for number in range(20_000)
    )
    for data in (
        b"II*\x00\x08\x00\x00\x00" + chain,
        b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 5000) + entry * 5000 + bytes(4),
    ):
        with pytest.raises(Rejected) as caught:
            read_header(data, LIMITS)
        assert caught.value.code == "out_of_proportion"
    one = tiff(FULL)
    with pytest.raises(Rejected) as caught:
        count_tiff_pages(tiff(*[FULL] * 5), 4)
    assert caught.value.code == "too_many_frames"
    assert count_tiff_pages(one, 1) == 1


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize(("count", "back_to"), [(1, 0), (3, 0), (3, 1), (3, 2)])
def test_directories_that_refer_back_are_refused(count: int, back_to: int, bigtiff: bool) -> None:
    data = tiff(*[FULL] * count, bigtiff=bigtiff)
    order, head, width, entry, number = ("<", 8, 8, 20, "Q") if bigtiff else ("<", 4, 4, 12, "I")
    ends, (at,) = [head], struct.unpack_from(f"{order}{number}", data, head)
    directories = []
    while at:
        directories.append(at)
        (tags,) = struct.unpack_from(f"{order}{'Q' if bigtiff else 'H'}", data, at)
        ends.append(at + (8 if bigtiff else 2) + tags * entry)
        (at,) = struct.unpack_from(f"{order}{number}", data, ends[-1])
    assert len(directories) == count
    looped = data[: ends[-1]] + directories[back_to].to_bytes(width, "little") + data[ends[-1] + width :]
    for reading in (decode, read_header):
        with pytest.raises(Rejected, match="refers back") as caught:
            reading(looped, LIMITS)
        assert caught.value.code == "damaged"
    with pytest.raises(Rejected, match="refers back"):
        count_tiff_pages(looped, 64)


@pytest.mark.parametrize(
    ("format", "parameters", "name"),
    [
        ("JPEG2000", {"irreversible": False}, "jpeg2000"),
        ("JPEG2000", {"irreversible": False, "no_jp2": True}, "jpeg2000"),
        ("TGA", {}, "tga"),
        ("TGA", {"compression": "tga_rle"}, "tga"),
    ],
)
def test_jpeg_2000_and_tga_are_read(format: str, parameters: dict[str, Any], name: str) -> None:
    data = file_of(Image.fromarray(PAGE), format, **parameters)
    decoded = decode(data, LIMITS)
    assert decoded.header.format == name
    assert np.array_equal(decoded.picture.pixels, PAGE)


def test_a_bitmap_whose_alpha_is_all_zero_is_opaque() -> None:
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rows = np.dstack([PAGE[::-1, :, ::-1], np.zeros((48, 64), np.uint8)]).tobytes()
    info = struct.pack("<IiiHHIIiiII", 108, 64, 48, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks + bytes(52)
    data = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(rows), 0, 0, 14 + len(info)) + info + rows
    decoded = decode(data, LIMITS)
    assert decoded.picture.alpha is None
    assert np.array_equal(decoded.picture.pixels, PAGE)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<!DOCTYPE html><html><body>404</body>", "HTML page"),
        (b"\n<html><head>", "HTML page"),
        (b"<?xml version='1.0'?><!-- a --><!DOCTYPE svg PUBLIC 'x'><svg xmlns='x'>", "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML file"),
        (b'{"error": "not found"}', "JSON"),
        ("Zugriff verweigert: Schlüssel fehlt".encode(), "text file"),
        (b"8BPS\x00\x01" + bytes(20), "Photoshop"),
        (b"\xff\x0a" + bytes(range(1, 60)), "JPEG XL"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(9), "JPEG XL"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(20), "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(20), "video"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "video"),
        (b"\x00\x05\x16\x07" + bytes(20), "macOS side file"),
        (bytes(4000), "zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x04CgBI\x50\x00\x20\x02" + bytes(60), "Apple"),
        (b"\x1f\x8b\x08" + bytes(range(1, 80)), "compressed"),
    ],
)
def test_the_error_names_what_the_file_is(data: bytes, name: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_header(data, LIMITS)
    assert caught.value.code == "unsupported_format"
    assert name in caught.value.message


HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAUJtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "AA5waXRtAAAAAAABAAAAImlsb2MAAAAAREAAAQABAAAAAAFmAAEAAAAAAAAEmAAAACNpaW5mAAAAAAABAAAAFWluZmUCAAAAAAEA"
    "AGh2YzEAAAAAwmlwcnAAAACkaXBjbwAAAHhodmNDAQNwAAAAAAAAAAAAHvAA/P34+AAADwMgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQCEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBhZbqSSmubgQEDAgAAAMACAAAAwAIQCIAAQAHRAHBcrAiQAAAABRpc3Bl"
    "AAAAAAAAAEAAAABgAAAAEHBpeGkAAAAAAwgICAAAABZpcG1hAAAAAAAAAAEAAQOBAoMAAASgbWRhdAAABJQoAa8GOPGNDJBJm/Df"
    "//9a+yBYsGS/bL3/7Kmb7WrRv/+q2LX43B021V4nMuvz53W/DD5jedKq1jovIs2DYJwDoOlOnwLd/09DWwiGRBOpIl/9zs3TXkn9"
    "ci2F1/hBLxh+yOR6sz4UiJEv0lWo81B19aVZdoScty9YKWkom6XD42YH4YAtBGbHGZQbY+kbGXCw2VdGmYKl8Kfk996kDW546CM8"
    "qKZU0ICnjdG9kskDhy8qYvTgJonLo+C9plQGa8B5v5wOB4ifRVO+CqHOrtjUzCU5Dx+Shxe//o+E672tRxQwbDaZqprQ3WZSz0ah"
    "Q1qdQh9IKsCWKX8Py2SxZHRGk2sP9rfmWxLfqDDm6w7MbMc0T9pLGJ/ANH30D2Ld1Iv+8+siAHhIlBXO74Gsm0V4f3BfKlro3aUs"
    "Gx18jvVzkTY9IXABsOqO+9TCQrGMnfiEOElxGllOI+UALPnsMb8gF+rCB1AJy7/uCwdYVMrnT4Vc5hS4WMfZHPjiz6xUdpb7Zxlo"
    "3VuSnKgGEeQjNNDxmJcGso4WKZkvtOkhjBIJwpmaYa98/gU0cZUP8PiWnb7rghP8utkMJQgMz/SHSHR5LAxK0CIs4qlFhT25nc5V"
    "PbUnUttMgAJYi0gfM++g62TmjIONMmfcHeaIFEav2j19qyYMjOXGpNjLjVy+P3iP7swgxlTOuuyRR1KakgEwWMFG/41lFAQnpwwa"
    "vFZrsEgnUnG244lqw8BFXD6JQ8ACGIP9DbkPjxn0YF8Aek/TwlsZxmed52EQqD80pSirFxyiQvMg/KsD7D1bQd3IHbemKsf5JXWW"
    "m9UuEDxD+LHc7QCQPljmrZs3Ld4r9OTCtiEkpY0Hb3nB8Keu/nIiZtiIV0qG6BzZy2awfvvHof1QnJnJaa0djaWw/mW3RcbckWxV"
    "hnRANc5eU46xSPn1h2ZjT0glHAVkzGTiclx0wRGOTOWTlCSCzPAaJk1SnIYYsG+rwweIzADOgFSzxNtMOaT55H5PPbZvdMme39e3"
    "9t4ffsNcn2PTtmuGfCxACmyFTL+MA9svCApQW2VUYZ8J7i2SmCIVqF1z0eHvzzxsrDQ8aPPISOmnYSCSZHjvOzTbqEcpMl0+8PsF"
    "Qa3a4gA9aHf+AwzfINZJgyix525qjfx9EmCwKvS2jFS+PVWfAbarvBRtn6gy2rJqq/XtR1thXTcTIRaW9Cf46XEO6Phjjhp3YVrB"
    "EB7HLIqstcFfqTCn9I+Cgty8hsfgM1y0DbeAMJ9kX2R38/MYTVJZwZYW1oiNEd1wYKU3xxiQKMv0w5kdpIcVX9LkkvzLII1ZnpnK"
    "rN+NfK7SuKNF+2oSr+Rav3V2iVtfz4VbfQrMbCB4i1sIeF4qxT2ni5VFs2mz49LuBskA2CujECTa9S0RIJqpGfDy9gscoZ4qZPqQ"
    "/MnrVYdihdR0ALauubVv8ISyKFe8PWQ2QghHN9a5nBKoac2ac45RhoBqqht5NfJONJydIsBMhvoLYAAaYiKa20QLUlCUo/rndPRW"
    "KsTPj6fcYVWIUPT/laBJJsqRMjqcARgZcUf0Lf/sdIu2EA=="
)
"""64 x 96: red at (20, 15) on cream, blue at (40, 70); encoded by heif-enc of libheif."""


def test_heic_is_read_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """HEIC is read if the extra is installed."""
    found = decode(HEIC, LIMITS)
    assert (found.header.format, found.header.width, found.header.height) == ("heif", 64, 96)
    for place, colour in (((15, 20), (200, 30, 30)), ((70, 40), (20, 60, 180)), ((90, 5), (250, 240, 230))):
        assert np.abs(found.picture.pixels[place].astype(int) - colour).max() <= 6
    for damaged in (HEIC[:-30], HEIC[:900], HEIC[:300], HEIC[:20]):
        with pytest.raises(Rejected):
            decode(damaged, LIMITS)
    monkeypatch.setattr(sys.modules[decode.__module__], "_HEIF", ())
    with pytest.raises(Rejected, match=r"panelworks\[heic\]"):
        decode(HEIC, LIMITS)
