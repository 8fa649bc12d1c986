"""ThumbHash: equal to the reference up to the rounding of coefficients that are zero."""

import numpy as np
import pytest

from panelworks.pictures import Picture
from panelworks.pictures.thumbhash import average_colour, thumbhash

HEAD_BYTES = 5


def pattern(width: int, height: int, *, transparent: bool) -> Picture:
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    pixels = np.stack([x * 7 + y * 3, x * y // 5, 255 - (x * x // 9 + y * 11)], axis=2) % 256
    return Picture(pixels.astype(np.uint8), (x * 9 % 256).astype(np.uint8) if transparent else None)


# Of thumbhash-rs 0.1.0, the reference implementation for Rust, for the same pixels.
@pytest.mark.parametrize(
    ("width", "height", "transparent", "expected"),
    [
        (75, 100, False, "9e27061506301160b7339442a6a55a782062e1fddc"),
        (100, 75, False, "9e2706158643653542670973974698953132f0feb9"),
        (100, 100, False, "9e1702170620325042685b426727784aa983063114cdaf0b"),
        (100, 30, False, "5d4706228862846072a867bb3071e1fdd8"),
        (9, 80, False, "59c60a390a757078796998c97570c30732"),
        (60, 40, True, "9e678213842794839087b17580f4fbcb53308788787888"),
        (1, 1, False, "15002aff0107f807878887808f8088f80787808ff8000000"),
    ],
)
def test_it_is_that_of_the_reference(width: int, height: int, transparent: bool, expected: str) -> None:
    made, reference = thumbhash(pattern(width, height, transparent=transparent)), bytes.fromhex(expected)
    assert len(made) == len(reference)
    if min(width, height) > 1:  # the scale of a single pixel is the rounding error of a zero
        assert made[:HEAD_BYTES] == reference[:HEAD_BYTES]
        assert (
            max(abs(one - other) for one, other in zip(nibbles(made), nibbles(reference), strict=True)) <= 1
        )


def nibbles(data: bytes) -> list[int]:
    return [part for byte in data for part in (byte & 15, byte >> 4)]


def test_gray_is_gray() -> None:
    gray = Picture(np.full((40, 30, 1), 96, dtype=np.uint8))
    assert average_colour(gray) == (96, 96, 96)
    assert thumbhash(gray) == thumbhash(Picture(gray.rgb()))


def test_hidden_colour_does_not_count() -> None:
    pixels = np.zeros((10, 10, 3), dtype=np.uint8)
    pixels[:5] = (200, 100, 50)
    alpha = np.zeros((10, 10), dtype=np.uint8)
    alpha[:5] = 255
    assert average_colour(Picture(pixels, alpha)) == (200, 100, 50)
    other = pixels.copy()
    other[5:] = 255
    assert thumbhash(Picture(pixels, alpha)) == thumbhash(Picture(other, alpha))
    assert average_colour(Picture(pixels, np.zeros_like(alpha))) == (255, 255, 255)


def test_a_large_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="101 x 1"):
        thumbhash(Picture(np.zeros((1, 101, 3), dtype=np.uint8)))
