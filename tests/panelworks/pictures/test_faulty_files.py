"""What each faulty file of the workplace becomes: one row a file."""

from pathlib import Path
from typing import Final

import numpy as np
import pytest

from panelworks.errors import Rejected
from panelworks.pictures import decode, read_header
from panelworks.settings import Settings

LIMITS = Settings()
SOUND: Final = "sound"
DAMAGED: Final = "damage is reported"
EXPECTED: Final = {
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
}


def test_every_faulty_file_becomes_what_the_table_says(assets: Path, subtests: pytest.Subtests) -> None:
    folders = {name.split("/")[0] for name in EXPECTED}
    files = {f"{folder}/{path.name}" for folder in folders for path in (assets / "faults" / folder).iterdir()}
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


def test_png_files_of_sound_pixels_are_the_same_picture(assets: Path) -> None:
    first, *others = (
        decode((assets / "faults" / name).read_bytes(), LIMITS).picture.pixels
        for name in EXPECTED
        if name.startswith("png/") and "iccp" not in name
    )
    assert all(np.array_equal(first, other) for other in others)
