"""TIFF pictures that Pillow does not read: floating-point colour, and 16-bit gray with alpha."""

import io
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import tiff_directories as tiff
from panelworks.pictures.picture import Pixels

REDUCED: Final = "reduced to 8 bits a channel"
"""The note of a picture with more than 8 bits a channel."""
_PROFILE: Final = 34675
"""Tag of the ICC profile."""
_FLOAT: Final = 3
"""SampleFormat of floating-point values."""
_HORIZONTAL: Final = 2
"""Predictor that stores differences to the pixel on the left."""
_ASSOCIATED: Final = 1
"""ExtraSamples of colours that were multiplied with their alpha."""


def is_deep(page: tiff.Directory) -> bool:
    """Is this one of the kinds that are read here?"""
    return _is_float_colour(page) or _is_deep_gray_with_alpha(page)


def load_deep(data: bytes, page: tiff.Directory) -> Image.Image:
    """The picture in 8 bits a channel (LA, RGB or RGBA), with its profile.

    Raises:
        Rejected: `unsupported_format`, an arrangement that is not read; `damaged`.
    """
    if _is_float_colour(page):
        image = Image.fromarray(_eight_bits(_decoded(tiff.page_file(data, page, {}))))
    else:
        image = _gray_with_alpha(data, page)
    if _PROFILE in page.entries:
        image.info["icc_profile"] = bytes(page.entries[_PROFILE][2])
    return image


def _is_float_colour(page: tiff.Directory) -> bool:
    return page.value(tiff.SAMPLE_FORMAT, 1) == _FLOAT and page.value(tiff.SAMPLES, 1) in (3, 4)


def _is_deep_gray_with_alpha(page: tiff.Directory) -> bool:
    bits, samples = page.values(tiff.BITS, 1), page.value(tiff.SAMPLES, 1)
    integers = page.value(tiff.SAMPLE_FORMAT, 1) == 1
    return integers and bits == (16, 16) and samples == 2 and page.value(tiff.PHOTOMETRIC) in (0, 1)


def _decoded(data: bytes) -> npt.NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3:
        raise Rejected("damaged", "The TIFF picture's data is damaged and cannot be read.")
    cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, dst=pixels)
    return pixels


def _eight_bits(values: npt.NDArray[Any]) -> Pixels:
    """Floating-point colour of 0..1 or 0..255 as bytes; what is brighter than white becomes white."""
    values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
    if float(np.percentile(values, 99)) <= 2:
        values = values * 255
    result: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return result


def _gray_with_alpha(data: bytes, page: tiff.Directory) -> Image.Image:
    """Read as gray of twice the width, then taken apart."""
    width, height = page.size
    tiled = tiff.TILE_OFFSETS in page.entries
    if page.value(tiff.PLANAR, 1) != 1 or tiled or page.value(tiff.PREDICTOR, 1) not in (1, _HORIZONTAL):
        raise Rejected(
            "unsupported_format", "This TIFF stores 16-bit gray with alpha in an unusual arrangement."
        )
    changes = {tiff.WIDTH: 2 * width, tiff.SAMPLES: 1, tiff.BITS: 16, tiff.PREDICTOR: 1, tiff.PHOTOMETRIC: 1}
    plain = tiff.page_file(data, page, changes, without=(tiff.EXTRA_SAMPLES, tiff.SAMPLE_FORMAT))
    with Image.open(io.BytesIO(plain), formats=("TIFF",)) as image:
        values = np.array(image).reshape(height, width, 2)
    if page.value(tiff.PREDICTOR, 1) == _HORIZONTAL:
        values = np.cumsum(values, axis=1, dtype=np.uint16)
    gray, alpha = values[:, :, 0].astype(np.float32), values[:, :, 1].astype(np.float32)
    if page.value(tiff.PHOTOMETRIC) == 0:
        gray = 65535 - gray
    if page.value(tiff.EXTRA_SAMPLES) == _ASSOCIATED:
        gray = np.clip(gray * 65535 / np.maximum(alpha, 1), 0, 65535)
    planes = np.rint(np.stack([gray, alpha], axis=2) / 257).astype(np.uint8)
    return _as_la(planes)


def _as_la(planes: Pixels) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(planes[:, :, 0]))
    image.putalpha(Image.fromarray(np.ascontiguousarray(planes[:, :, 1])))
    return image
