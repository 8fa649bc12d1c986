"""Every kind of TIFF has the right pixels or is refused by name. None is read wrongly or reported as damaged."""

import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import decode, read_header
from panelworks.settings import Settings
from tests.pages import drawn

LIMITS = Settings()
COLOUR: Final = drawn(48, 40).pixels
GRAY: Final = np.asarray(Image.fromarray(COLOUR).convert("L"))
CMYK: Final = np.asarray(Image.fromarray(COLOUR).convert("CMYK"))
ALPHA: Final = np.full(GRAY.shape, 200, np.uint8)
LA: Final = np.dstack([GRAY, ALPHA])
RGBA: Final = np.dstack([COLOUR, ALPHA])
_ALPHA_TAG: Final = {338: [2]}
_FORMS: Final = {"u": 1, "i": 2, "f": 3}


def tiff(values: npt.NDArray[Any], photometric: int, order: str = "<", *, planar: bool = False, packed: bool = False,
         tags: dict[int, list[int]] | None = None) -> bytes:  # fmt: skip
    """A TIFF of HxWxC values, in strips of 16 rows."""
    height, width, samples = values.shape
    stored = values.astype(values.dtype.newbyteorder("<" if order == "<" else ">"))
    planes = [stored[:, :, [one]] for one in range(samples)] if planar else [stored]
    strips = [plane[top : top + 16].tobytes() for plane in planes for top in range(0, height, 16)]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    places = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    entries: dict[int, list[int]] = {
        256: [width], 257: [height], 258: [values.dtype.itemsize * 8] * samples, 259: [8 if packed else 1],
        262: [photometric], 273: places, 277: [samples], 278: [16], 279: [len(strip) for strip in strips],
        284: [2 if planar else 1], 339: [_FORMS[values.dtype.kind]] * samples, **(tags or {}),
    }  # fmt: skip
    start = 8 + sum(map(len, strips))
    table, extra, extra_at = b"", b"", start + 2 + 12 * len(entries) + 4
    for tag, numbers in sorted(entries.items()):
        kind, code = (4, "I") if tag in (273, 279) else (3, "H")
        raw = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        if len(raw) > 4:
            place = extra_at + len(extra)
            extra += raw
            raw = struct.pack(f"{order}I", place)
        table += struct.pack(f"{order}HHI", tag, kind, len(numbers)) + raw.ljust(4, b"\x00")
    mark = b"II" if order == "<" else b"MM"
    directory = struct.pack(f"{order}H", len(entries)) + table + bytes(4) + extra
    return mark + struct.pack(f"{order}HI", 42, start) + b"".join(strips) + directory


def deep(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    return values.reshape(*GRAY.shape, -1).astype(np.uint16) * 257


def floating(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return (values.reshape(*GRAY.shape, -1) / 255).astype(np.float32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("values", "photometric", "tags"),
    [
        (deep(COLOUR), 2, {}), (deep(RGBA), 2, _ALPHA_TAG), (floating(COLOUR), 2, {}), (floating(RGBA), 2, _ALPHA_TAG),
        (deep(LA), 1, _ALPHA_TAG), (LA, 1, _ALPHA_TAG), (COLOUR, 2, {}), (RGBA, 2, _ALPHA_TAG), (CMYK, 5, {}),
        (deep(CMYK), 5, {}),
    ],
)  # fmt: skip
def test_the_arrangement_does_not_change_the_pixels(
    order: str,
    packed: bool,
    planar: bool,
    values: npt.NDArray[Any],
    photometric: int,
    tags: dict[int, list[int]],
) -> None:
    decoded = decode(tiff(values, photometric, order, planar=planar, packed=packed, tags=tags), LIMITS)
    picture = decoded.picture
    gray = np.repeat(GRAY[:, :, None], 3, axis=2)
    cmyk = np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB"))
    expected = gray if photometric == 1 else cmyk if photometric == 5 else COLOUR
    assert np.abs(picture.rgb().astype(int) - expected).max() <= 1
    assert picture.damage is None
    assert (picture.alpha is not None) == (tags is _ALPHA_TAG)
    assert len(decoded.notes) == len(set(decoded.notes))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("values", [deep(GRAY), floating(GRAY), GRAY[:, :, None]])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_gray_is_read_with_either_zero(
    order: str, packed: bool, values: npt.NDArray[Any], white_is_zero: bool
) -> None:
    top = {"f": 1}.get(values.dtype.kind, 2 ** (values.dtype.itemsize * 8) - 1)
    stored = (top - values).astype(values.dtype) if white_is_zero else values
    picture = decode(tiff(stored, int(not white_is_zero), order, packed=packed), LIMITS).picture
    assert np.array_equal(picture.pixels[:, :, 0], GRAY)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("values", "photometric", "tags"),
    [(deep(COLOUR), 2, {}), (floating(COLOUR), 2, {}), (deep(LA), 1, _ALPHA_TAG), (COLOUR, 2, {}), (deep(GRAY), 0, {}),
     (floating(GRAY), 1, {})],
)  # fmt: skip
@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, -1), (8, 1)])
def test_every_kind_is_delivered_upright(
    planar: bool,
    values: npt.NDArray[Any],
    photometric: int,
    tags: dict[int, list[int]],
    orientation: int,
    turns: int,
) -> None:
    planar = planar and values.shape[2] > 1
    data = tiff(values, photometric, planar=planar, tags={**tags, 274: [orientation]})
    plain = decode(tiff(values, photometric, planar=planar, tags=tags), LIMITS).picture
    turned = decode(data, LIMITS)
    header = read_header(data, LIMITS)
    assert (header.width, header.height) == turned.picture.size
    assert np.array_equal(turned.picture.pixels, np.rot90(plain.pixels, turns))


def test_a_colour_map_of_8_bit_values_is_read_as_such() -> None:
    indexed = Image.fromarray(COLOUR).quantize(32)
    colours = np.zeros((256, 3), np.uint16)
    table = np.array(indexed.getpalette(), np.uint16).reshape(-1, 3)
    colours[: len(table)] = table
    expected = np.asarray(indexed.convert("RGB"))
    for scale, notes in ((257, ()), (1, ("the colour map holds 8-bit values and was read as such",))):
        data = tiff(
            np.asarray(indexed)[:, :, None], 3, tags={320: [int(n) for n in (colours * scale).T.ravel()]}
        )
        decoded = decode(data, LIMITS)
        assert np.array_equal(decoded.picture.rgb(), expected)
        assert decoded.notes == notes


@pytest.mark.parametrize(
    ("values", "photometric", "tags", "name"),
    [
        (np.dstack([CMYK, ALPHA]), 5, _ALPHA_TAG, "8-bit CMYK with alpha"),
        (floating(CMYK), 5, {}, "32-bit floating-point CMYK"),
        (COLOUR.astype(np.uint32), 2, {}, "32-bit RGB"),
        (floating(GRAY).astype(np.float16), 1, {}, "16-bit floating-point gray"),
        (floating(COLOUR).astype(np.float64), 2, {}, "64-bit floating-point RGB"),
        (floating(COLOUR).astype(np.float64), 2, {284: [2], 278: [40]}, "64-bit floating-point RGB"),
        (GRAY[:, :, None].astype(np.int8), 1, {}, "8-bit signed gray"),
        (GRAY[:, :, None].astype(np.int16), 1, {}, "16-bit signed gray"),
        (COLOUR, 6, {}, "8-bit YCbCr"),
        (GRAY[:, :, None], 32803, {}, "8-bit raw camera"),
        (COLOUR, 2, {259: [34712]}, "8-bit RGB in JPEG 2000 compression"),
        (COLOUR, 2, {259: [9999]}, "8-bit RGB in unknown .9999. compression"),
    ],
)  # fmt: skip
def test_the_error_names_an_unsupported_kind(
    values: npt.NDArray[Any], photometric: int, tags: dict[int, list[int]], name: str
) -> None:
    with pytest.raises(Rejected, match=f"This TIFF stores {name}, which is not supported") as caught:
        decode(tiff(values, photometric, tags=tags), LIMITS)
    assert caught.value.code == "unsupported_format"


def test_the_error_names_an_unsupported_compression() -> None:
    with pytest.raises(Rejected, match="WEBP compression support is not configured") as caught:
        decode(tiff(COLOUR, 2, tags={259: [50001]}), LIMITS)
    assert caught.value.code == "unsupported_format"
