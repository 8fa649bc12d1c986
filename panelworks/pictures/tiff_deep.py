"""TIFF pictures that Pillow reads wrongly or not at all: floating-point colour, 16-bit gray with alpha, separate planes of
more than 8 bits."""

import io
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import tiff_directories as tiff
from panelworks.pictures.picture import Pixels

REDUCED_NOTE: Final = "reduced to 8 bits a channel"
"""The note for a picture with more than 8 bits a channel."""
_PROFILE: Final = 34675
"""Tag of the ICC profile."""
_COLOUR_MAP: Final = 320
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
"""SampleFormat of integers and of floating-point values."""
_SUBSAMPLING: Final = 530
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _YCBCR = 0, 1, 2, 5, 6
"""PhotometricInterpretation."""
_CHANNELS: Final = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4}
"""Samples of a pixel without extra samples, by supported interpretation."""
_SUPPORTED_PLANES: Final = ((_UNSIGNED, 8), (_UNSIGNED, 16), (_FLOAT, 32))
"""Supported SampleFormat and bits of separate planes."""
_SEPARATE: Final = 2
"""PlanarConfiguration of files with separate channels."""
_HORIZONTAL: Final = 2
"""Predictor that stores differences to the left pixel."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
"""ExtraSamples of an alpha channel: colours are multiplied by it, or not."""
_SAMPLE_FORMATS: Final = {1: "", 2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}
_INTERPRETATIONS: Final = {
    0: "gray",
    1: "gray",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    9: "Lab",
    10: "Lab",
    32803: "raw camera",
    32844: "LogL",
    32845: "LogLuv",
    34892: "raw camera",
}
_COMPRESSIONS: Final = {
    6: "old-style JPEG",
    9: "JBIG",
    10: "JBIG",
    32809: "ThunderScan",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "LogLuv",
    34677: "LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""Names of rare compressions."""

_SUPPORTED_COMPRESSIONS: Final = (1, 2, 3, 4, 5, 7, 8, 32771, 32773, 32946, 34925, 50000)


def is_deep(page: tiff.Directory) -> bool:
    """Whether this module reads the picture."""
    return (
        page.value(tiff.SAMPLE_FORMAT, 1) == _FLOAT
        or _is_deep_gray_with_alpha(page)
        or _is_deep_white_is_zero(page)
        or _is_separate(page)
    )


def refuse_unsupported(page: tiff.Directory) -> None:
    """Refuse kinds that Pillow reads wrongly: signed values, and subsampled YCbCr without compression.

    Raises:
        Rejected: `unsupported_format`.
    """
    signed = page.value(tiff.SAMPLE_FORMAT, 1) == _SIGNED and max(page.values(tiff.BITS, 1)) <= 16
    uncompressed_ycbcr = page.value(tiff.PHOTOMETRIC) == _YCBCR and page.value(tiff.COMPRESSION, 1) == 1
    subsampled = (page.values(_SUBSAMPLING) if _SUBSAMPLING in page.entries else (2, 2)) != (1, 1)
    if signed or (uncompressed_ycbcr and subsampled):
        raise unsupported_kind_error(page)


def describe_kind(page: tiff.Directory) -> str:
    """Describe the stored kind for a message, such as `64-bit floating-point RGB with alpha`."""
    interpretation = page.value(tiff.PHOTOMETRIC)
    name = _INTERPRETATIONS.get(interpretation, f"interpretation {interpretation}")
    bits = "/".join(str(bits) for bits in dict.fromkeys(page.values(tiff.BITS, 1)))
    alpha = " with alpha" if page.value(tiff.EXTRA_SAMPLES) in (_ASSOCIATED, _UNASSOCIATED) else ""
    form = _SAMPLE_FORMATS.get(page.value(tiff.SAMPLE_FORMAT, 1), "")
    compression = page.value(tiff.COMPRESSION, 1)
    packed = _COMPRESSIONS.get(compression, f"unknown ({compression})")
    packed = "" if compression in _SUPPORTED_COMPRESSIONS else f" in {packed} compression"
    return f"{bits}-bit {form}{name}{alpha}{packed}"


def unsupported_kind_error(page: tiff.Directory) -> Rejected:
    """Return the error for a valid TIFF of an unsupported kind."""
    return Rejected(
        "unsupported_format",
        f"This TIFF stores {describe_kind(page)}, which is not supported; convert it to 8-bit RGB or gray.",
    )


def load_deep(data: bytes, page: tiff.Directory) -> Image.Image:
    """Load the picture as stored, not yet rotated, with 8 bits a channel (L, LA, RGB, RGBA or CMYK) and its profile.

    Gray without alpha keeps its values (I;16 or F), also if white is zero.

    Raises:
        Rejected: `unsupported_format`, an unsupported arrangement; `damaged`.
    """
    if _is_separate(page):
        image = _merge_planes(page, _read_planes(data, page))
    elif page.value(tiff.SAMPLE_FORMAT, 1) == _FLOAT:
        image = _load_floating_point(data, page)
    elif _is_deep_white_is_zero(page):
        changes = {tiff.PHOTOMETRIC: _BLACK_IS_ZERO}
        image = Image.fromarray(
            _read_values(tiff.page_file(data, page, changes, (tiff.ORIENTATION,))).astype(np.uint16)
        )
    else:
        values = _read_gray_with_alpha(data, page)
        image = _merge_planes(page, [_reduce_to_bytes(values[:, :, channel]) for channel in range(2)])
    if _PROFILE in page.entries:
        image.info["icc_profile"] = bytes(page.entries[_PROFILE][2])
    return image


def colour_map_of_bytes(page: tiff.Directory) -> list[int] | None:
    """The palette, R, G and B of each colour, if it holds 8-bit instead of 16-bit values, by libtiff's rule."""
    if page.value(tiff.PHOTOMETRIC) != 3:
        return None
    values = page.values(_COLOUR_MAP)
    size = len(values) // 3
    if not any(values) or max(values) > 255:
        return None
    return [values[channel * size + colour] for colour in range(min(size, 256)) for channel in range(3)]


def _is_deep_gray_with_alpha(page: tiff.Directory) -> bool:
    bits, samples = page.values(tiff.BITS, 1), page.value(tiff.SAMPLES, 1)
    integers = page.value(tiff.SAMPLE_FORMAT, 1) == _UNSIGNED
    return integers and bits == (16, 16) and samples == 2 and page.value(tiff.PHOTOMETRIC) in (0, 1)


def _is_deep_white_is_zero(page: tiff.Directory) -> bool:
    """Whether it is 16-bit gray with zero as white, which Pillow reads only in little-endian files."""
    gray = page.values(tiff.BITS, 1) == (16,) and page.value(tiff.SAMPLE_FORMAT, 1) == _UNSIGNED
    return gray and page.value(tiff.SAMPLES, 1) == 1 and page.value(tiff.PHOTOMETRIC, 1) == _WHITE_IS_ZERO


def _is_separate(page: tiff.Directory) -> bool:
    """Whether it has separate planes that Pillow does not read, or reads as interleaved ones."""
    samples, channels = page.value(tiff.SAMPLES, 1), _CHANNELS.get(page.value(tiff.PHOTOMETRIC), 0)
    if samples < 2 or page.value(tiff.PLANAR, 1) != _SEPARATE:
        return False
    return max(page.values(tiff.BITS, 1)) > 8 or (channels > 0 and (channels == 1 or samples > channels + 1))


def _read_planes(data: bytes, page: tiff.Directory) -> list[npt.NDArray[Any]]:
    """Read the colour channels and the first extra channel of separate planes, each as a gray picture.

    Integers are reduced to 8 bits.
    """
    channels = _CHANNELS.get(page.value(tiff.PHOTOMETRIC), 0)
    bits, form, samples = (
        page.value(tiff.BITS, 1),
        page.value(tiff.SAMPLE_FORMAT, 1),
        page.value(tiff.SAMPLES, 1),
    )
    alike = len(set(page.values(tiff.BITS, 1))) == 1 and len(set(page.values(tiff.SAMPLE_FORMAT, 1))) == 1
    if not 0 < channels <= samples or not alike or (form, bits) not in _SUPPORTED_PLANES:
        raise unsupported_kind_error(page)
    changes = {tiff.SAMPLES: 1, tiff.BITS: bits, tiff.SAMPLE_FORMAT: form, tiff.PHOTOMETRIC: _BLACK_IS_ZERO}
    without = (tiff.EXTRA_SAMPLES, tiff.PLANAR, tiff.ORIENTATION, _PROFILE)
    planes = []
    for plane in range(min(samples, channels + 1)):
        file = tiff.page_file(data, tiff.select_plane(page, plane), changes, without)
        planes.append(_decode_floats(file) if form == _FLOAT else _reduce_to_bytes(_read_values(file)))
    return planes


def _read_values(data: bytes) -> npt.NDArray[Any]:
    """Read the values of a gray picture."""
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
        return np.array(image)


def _reduce_to_bytes(values: npt.NDArray[Any]) -> Pixels:
    """Reduce 16-bit values to bytes. Bytes are returned unchanged."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _load_floating_point(data: bytes, page: tiff.Directory) -> Image.Image:
    """Load interleaved floating-point gray or colour."""
    interpretation, samples = page.value(tiff.PHOTOMETRIC), page.value(tiff.SAMPLES, 1)
    gray = interpretation in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples == 1
    if set(page.values(tiff.BITS, 1)) != {32} or not (gray or (interpretation == _RGB and samples in (3, 4))):
        raise unsupported_kind_error(page)
    changes = {tiff.PHOTOMETRIC: _BLACK_IS_ZERO} if gray else {}
    values = _decode_floats(tiff.page_file(data, page, changes, without=(tiff.ORIENTATION,)))
    return Image.fromarray(values if gray else _floats_to_bytes(values))


def _merge_planes(page: tiff.Directory, planes: list[npt.NDArray[Any]]) -> Image.Image:
    """Merge channels of bytes or floating point into a picture. The channel after the colours is alpha if the file says
    so."""
    interpretation, extra = page.value(tiff.PHOTOMETRIC), page.value(tiff.EXTRA_SAMPLES)
    count = _CHANNELS[interpretation]
    stacked = np.stack(planes, axis=2)
    stacked = _floats_to_bytes(stacked) if stacked.dtype != np.uint8 else stacked
    colours = stacked[:, :, :count]
    alpha = stacked[:, :, count] if len(planes) > count and extra in (_ASSOCIATED, _UNASSOCIATED) else None
    if alpha is not None and extra == _ASSOCIATED:
        divided = colours.astype(np.float32) * 255 / np.maximum(alpha, 1)[:, :, None]
        colours = np.rint(np.clip(divided, 0, 255)).astype(np.uint8)
    if interpretation == _WHITE_IS_ZERO:
        colours = 255 - colours
    if count == 4:
        return Image.merge(
            "CMYK", [Image.fromarray(np.ascontiguousarray(colours[:, :, one])) for one in range(4)]
        )
    image = Image.fromarray(np.ascontiguousarray(colours[:, :, 0] if count == 1 else colours))
    if alpha is not None:
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    return image


def _decode_floats(data: bytes) -> npt.NDArray[Any]:
    """Decode HxW or HxWxC floating-point values. Pillow would swap the bytes of compressed big-endian values."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise Rejected("damaged", "The TIFF picture's data is damaged and cannot be read.")
    if pixels.ndim == 3:
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, dst=pixels)
    return pixels


def _floats_to_bytes(values: npt.NDArray[Any]) -> Pixels:
    """Convert floating-point colour of 0..1 or 0..255 to bytes. Values brighter than white become white."""
    values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
    scale = 255 if float(np.percentile(values, 99)) <= 2 else 1
    result: Pixels = np.rint(np.clip(values, 0, 255 / scale) * scale).astype(np.uint8)
    return result


def _read_gray_with_alpha(data: bytes, page: tiff.Directory) -> npt.NDArray[np.uint16]:
    """Read HxWx2 values as gray of twice the width and separate them."""
    width, height = page.size
    tiled = tiff.TILE_OFFSETS in page.entries
    if tiled or page.value(tiff.PREDICTOR, 1) not in (1, _HORIZONTAL):
        raise Rejected(
            "unsupported_format", "This TIFF stores 16-bit gray with alpha in an unsupported arrangement."
        )
    changes = {tiff.WIDTH: 2 * width, tiff.SAMPLES: 1, tiff.BITS: 16, tiff.PREDICTOR: 1, tiff.PHOTOMETRIC: 1}
    without = (tiff.EXTRA_SAMPLES, tiff.SAMPLE_FORMAT, tiff.ORIENTATION)
    values: npt.NDArray[np.uint16] = _read_values(tiff.page_file(data, page, changes, without)).reshape(
        height, width, 2
    )
    if page.value(tiff.PREDICTOR, 1) == _HORIZONTAL:
        values = np.cumsum(values, axis=1, dtype=np.uint16)
    return values
