"""The result of each faulty file in the assets: one row for each."""

from pathlib import Path
from typing import Final

import numpy as np
import pytest

from panelworks.errors import Rejected
from panelworks.pictures import PICTURE_SUFFIXES, decode, read_header
from panelworks.settings import Settings

LIMITS = Settings()
SOUND: Final = "sound"
DAMAGED: Final = "damage is reported"
EXPECTED: Final = {
    "bombs/jpeg_progressive_scan_bomb_64MP.jpg": "out_of_proportion",
    "bombs/tiff_60k_ifds_360KB.tif": "out_of_proportion",
    "bombs/tiff_ifd_loop.tif": "damaged",
    "bombs/webp_canvas_14000x14000_anim.webp": "out_of_proportion",
    "jpeg-damaged/1-hole-of-4096-zeros.jpg": DAMAGED,
    "jpeg-damaged/2-1000-bytes-missing-inside.jpg": DAMAGED,
    "jpeg-damaged/3-EOI-in-the-middle.jpg": DAMAGED,
    "jpeg-damaged/4-second-half-of-another-file.jpg": DAMAGED,
    # One flipped bit after which the codes fall into step again: no decoder can see it.
    "jpeg-damaged/5-one-bit.jpg": SOUND,
    "jpeg-damaged/6-progressive-first-scan-only.jpg": DAMAGED,
    "jpeg-damaged/7-webp-zeros.webp": DAMAGED,
    "jpeg-damaged/8-png-zeros.png": "damaged",
    "jpeg-damaged/truth.png": SOUND,
    "png/bad-crc-idat.png": DAMAGED,
    "png/bad-crc-text.png": SOUND,
    "png/iccp-1.6MB.png": SOUND,
    "png/iccp-broken.png": SOUND,
    "png/itxt-compressed-1.6MB.png": SOUND,
    "png/itxt-compressed-after-IDAT.png": SOUND,
    "png/no-iend.png": SOUND,
    "png/zero-length-exif.png": SOUND,
    "png/zero-length-gama.png": SOUND,
    "png/zero-length-idat.png": SOUND,
    "png/zero-length-phys.png": SOUND,
    "png/zero-length-text.png": SOUND,
    "png/zero-length-unknown.png": SOUND,
    "png/ztxt-1.6MB.png": SOUND,
    "png/ztxt-broken-stream.png": SOUND,
    "png/ztxt-truncated-stream.png": SOUND,
    "tiff/01-lzw.tif": SOUND,
    "tiff/02-tiled.tif": SOUND,
    "tiff/03-planar-separate.tif": SOUND,
    "tiff/04-rgb16.tif": SOUND,
    "tiff/05-rgba16-unassociated.tif": SOUND,
    "tiff/06-cmyk8.tif": SOUND,
    "tiff/07-cmyk16.tif": SOUND,
    "tiff/08-gray-miniswhite8.tif": SOUND,
    "tiff/09-gray-miniswhite16.tif": SOUND,
    "tiff/10-g4.tif": SOUND,
    "tiff/11-bigtiff.tif": SOUND,
    "tiff/12-jpeg-ycbcr.tif": SOUND,
    "tiff/13-lab8.tif": SOUND,
    "tiff/14-rgb-float.tif": SOUND,
    "tiff/15-gray8-linear-profile.tif": SOUND,
    "tiff/16-gray16-linear-profile.tif": SOUND,
    "tiff/17-multipage.tif": SOUND,
    "tiff/18-thumbnail-first.tif": SOUND,
    "tiff/19-palette.tif": SOUND,
    "tiff/20-rgba-associated.tif": SOUND,
    "tiff/21-gray16-of-12-bit-range.tif": SOUND,
    "tiff/22-gray-alpha8.tif": SOUND,
    "tiff/23-gray-alpha16.tif": SOUND,
}


def test_every_faulty_file_has_the_result_in_the_table(assets: Path, subtests: pytest.Subtests) -> None:
    folders = {name.split("/")[0] for name in EXPECTED}
    files = {
        f"{folder}/{path.name}"
        for folder in folders
        for path in (assets / "faults" / folder).iterdir()
        if path.suffix in PICTURE_SUFFIXES
    }
    assert files == set(EXPECTED)
    for name, expected in EXPECTED.items():
        with subtests.test(name):
            data = (assets / "faults" / name).read_bytes()
            try:
                header, decoded = read_header(data, LIMITS), decode(data, LIMITS)
            except Rejected as error:
                assert error.code == expected
                continue
            assert decoded.header == header
            assert (DAMAGED if decoded.picture.damage else SOUND) == expected


def test_png_files_with_valid_pixels_are_the_same_picture(assets: Path) -> None:
    first, *others = (
        decode((assets / "faults" / name).read_bytes(), LIMITS).picture.pixels
        for name in EXPECTED
        if name.startswith("png/") and "iccp" not in name
    )
    assert all(np.array_equal(first, other) for other in others)


def test_tiff_files_of_one_page_are_the_same_picture(assets: Path) -> None:
    pages = {
        name: decode((assets / "faults" / name).read_bytes(), LIMITS).picture
        for name in EXPECTED
        if name.startswith("tiff/")
    }
    truth = pages["tiff/01-lzw.tif"]
    # The G4 page is black and white, the 12-bit page uses the lower sixteenth of its range, one has real alpha.
    others = {name for name in pages if not name.startswith(("tiff/10-", "tiff/20-", "tiff/21-"))}
    for name in sorted(others):
        page = pages[name]
        assert page.size == truth.size, name
        wanted, got = (truth.luma(), page.luma()) if page.is_gray else (truth.rgb(), page.rgb())
        assert np.abs(wanted.astype(int) - got).mean() < 1, name
