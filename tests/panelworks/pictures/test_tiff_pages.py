"""Multi-page TIFF files taken apart."""

import io
import struct

import pytest
from PIL import Image

from panelworks.pictures.tiff_pages import MAX_TIFF_PAGES, split_pages
from tests.books import page_file


def tiff(pages: int, **how: object) -> bytes:
    frames = [
        Image.open(io.BytesIO(page_file(seed, 90 + seed))).convert("RGB") for seed in range(1, pages + 1)
    ]
    if how.get("compression") == "group4":
        frames = [frame.convert("1") for frame in frames]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:], **how)
    return buffer.getvalue()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "group4"])
def test_each_page_is_a_file_with_the_same_pixels(compression: str, big: bool) -> None:
    data = tiff(3, compression=compression, big_tiff=big)
    pages = split_pages(data)
    assert sum(map(len, pages)) < len(data) + 3 * 200
    with Image.open(io.BytesIO(data)) as whole:
        for number, page in enumerate(pages):
            whole.seek(number)
            with Image.open(io.BytesIO(page)) as single:
                assert single.tobytes() == whole.tobytes()
                assert getattr(single, "n_frames") == 1  # noqa: B009 - not in the stubs


def looping() -> bytes:
    """The last directory names the first as its successor."""
    data = bytearray(tiff(2, compression="raw"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", data, second)
    struct.pack_into("<I", data, second + 2 + 12 * count, first)
    return bytes(data)


def broken_off() -> bytes:
    """The file ends inside its second directory."""
    data = tiff(2, compression="raw")
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * count)
    return data[: second + 20]


def crowded() -> bytes:
    """More directories than are read, all of the same pixels."""
    data = bytearray(tiff(1, compression="raw"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    size = 2 + 12 * count
    directory = bytes(data[first : first + size])
    struct.pack_into("<I", data, first + size, len(data))
    for _ in range(MAX_TIFF_PAGES):
        data += directory + struct.pack("<I", len(data) + size + 4)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"II*\0", page_file(1), tiff(1), broken_off(), looping(), crowded()],
    ids=["empty", "header", "png", "one page", "truncated", "loop", "crowded"],
)
def test_anything_else_is_left_whole(data: bytes) -> None:
    assert split_pages(data) == [data]


def test_a_thumbnail_is_no_page() -> None:
    data = bytearray(tiff(2, compression="raw"))
    (first,) = struct.unpack_from("<I", data, 4)
    tags = {struct.unpack_from("<H", data, first + 2 + 12 * n)[0]: first + 2 + 12 * n for n in range(8)}
    struct.pack_into("<HHII", data, tags[min(tags)], 254, 4, 1, 1)  # its width is gone, and not asked for
    assert split_pages(bytes(data)) == [bytes(data)]
