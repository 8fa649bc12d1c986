"""Frames as 8-bit sRGB. HDR video (PQ and HLG) and wide-gamut video are converted with one documented tone curve.

Runs in a child process. The steps for HDR: transfer curve to light in units of reference white (203 cd/m2, ITU-R BT.2408);
primaries of BT.2020 to BT.709; a curve that leaves values up to 0.6 unchanged and compresses all values above to at most 1,
applied to the largest channel so that hues stay; the curve of sRGB. Metadata of the mastering display is not used.
"""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BT709: Final = 1
UNSPECIFIED: Final = 2
BT601: Final = 6
_BT2020: Final = 9
_BT2020_MATRICES: Final = (9, 10)
"""`colorspace` of frames, numbered as in ITU-T H.273."""
PQ: Final = 16
HLG: Final = 18
"""`color_trc` of frames, numbered as in ITU-T H.273."""
_MIN_HD_LINES: Final = 720
"""Video of at least this height that does not state its matrix uses that of BT.709, smaller video that of BT.601."""
_REFERENCE_WHITE: Final = 203.0
"""Luminance of white paper in HDR video, in cd/m2 (ITU-R BT.2408)."""
_HLG_PEAK: Final = 1000.0
_HLG_GAMMA: Final = 1.2
_SDR_GAMMA: Final = 2.4
"""Gamma of a reference display, ITU-R BT.1886."""
_SHOULDER: Final = 0.6
"""Values up to this share of reference white are not compressed."""
_ACCURATE: Final = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
_BAND_ROWS: Final = 64
"""Rows that are converted at once, to limit memory."""
_BT2020_TO_BT709: Final = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_LUMINANCE_2020: Final = np.array([0.2627, 0.6780, 0.0593], np.float32)


def frame_to_srgb(frame: Any, width: int, height: int, *, smooth: bool = True) -> Pixels:
    """The pixels of a decoded frame, HxWx3, resized to `width` x `height`.

    Args:
        frame: `av.VideoFrame`.
        width: Of the result, in pixels.
        height: Of the result, in pixels.
        smooth: Interpolate accurately. Frames that are only measured need not be.
    """
    if frame.colorspace == UNSPECIFIED:
        frame.colorspace = BT709 if min(frame.width, frame.height) >= _MIN_HD_LINES else BT601
    if is_hdr(frame) or frame.colorspace in _BT2020_MATRICES or frame.color_primaries == _BT2020:
        return _wide_to_srgb(frame, width, height)
    method = _ACCURATE if smooth else Interpolation.AREA
    rgb = frame.reformat(width, height, "rgb24", interpolation=method, threads=1)
    return np.ascontiguousarray(rgb.to_ndarray())


def is_hdr(frame: Any) -> bool:
    """Does the frame have the transfer curve PQ or HLG?"""
    return frame.color_trc in (PQ, HLG)


def deinterlace(pixels: Pixels) -> Pixels:
    """Keep the first field of an interlaced frame, every second row, and interpolate the rows between."""
    height, width = pixels.shape[:2]
    if height < 2:
        return pixels
    field = np.ascontiguousarray(pixels[0::2])
    resized = cv2.resize(field, (width, field.shape[0] * 2), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(resized[:height])


def _wide_to_srgb(frame: Any, width: int, height: int) -> Pixels:
    planes = frame.reformat(width, height, "yuv444p16le", interpolation=Interpolation.BICUBIC, threads=1)
    luma, blue, red = (
        np.frombuffer(plane, np.uint16).reshape(height, plane.line_size // 2)[:, :width]
        for plane in planes.planes
    )
    result = np.empty((height, width, 3), np.uint8)
    full_range = frame.color_range == 2
    weights = (0.2627, 0.0593) if frame.colorspace in _BT2020_MATRICES else (0.2126, 0.0722)
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        signal = _to_rgb(luma[rows], blue[rows], red[rows], weights, full_range=full_range)
        light = signal_to_light(signal, frame.color_trc)
        light = compress_highlights(_matrixed(light)) if is_hdr(frame) else _matrixed(light)
        result[rows] = light_to_srgb(light)
    return result


def _to_rgb(
    luma: npt.NDArray[np.uint16],
    blue: npt.NDArray[np.uint16],
    red: npt.NDArray[np.uint16],
    weights: tuple[float, float],
    *,
    full_range: bool,
) -> Floats:
    """R'G'B' in [0, 1] from Y'CbCr of 16 bits; `weights` are those of red and blue in luma."""
    offset, luma_span, chroma_span = (0.0, 65535.0, 65535.0) if full_range else (4096.0, 56064.0, 57344.0)
    y = (luma.astype(np.float32) - np.float32(offset)) / np.float32(luma_span)
    cb = (blue.astype(np.float32) - np.float32(32768.0)) / np.float32(chroma_span)
    cr = (red.astype(np.float32) - np.float32(32768.0)) / np.float32(chroma_span)
    of_red, of_blue = weights
    r = y + np.float32(2 * (1 - of_red)) * cr
    b = y + np.float32(2 * (1 - of_blue)) * cb
    g = (y - np.float32(of_red) * r - np.float32(of_blue) * b) / np.float32(1 - of_red - of_blue)
    return np.asarray(np.clip(np.stack([r, g, b], axis=2), 0.0, 1.0), np.float32)


def signal_to_light(signal: Floats, transfer: int) -> Floats:
    """Light of a display from R'G'B' in [0, 1], HxWx3; 1 is reference white. `transfer` is the `color_trc` of the frame."""
    if transfer == PQ:
        power = np.power(signal, np.float32(32 / 2523))
        ratio = np.maximum(power - np.float32(0.8359375), 0) / (
            np.float32(18.8515625) - np.float32(18.6875) * power
        )
        return np.asarray(
            np.power(ratio, np.float32(8192 / 1305)) * np.float32(10000 / _REFERENCE_WHITE), np.float32
        )
    if transfer == HLG:
        a, b, c = (np.float32(one) for one in (0.17883277, 0.28466892, 0.55991073))
        scene = np.where(signal <= 0.5, signal * signal / 3, (np.exp((signal - c) / a) + b) / 12)
        brightness = np.maximum((scene * _LUMINANCE_2020).sum(axis=2, keepdims=True), np.float32(1e-6))
        light = scene * np.power(brightness, np.float32(_HLG_GAMMA - 1))
        return np.asarray(light * np.float32(_HLG_PEAK / _REFERENCE_WHITE), np.float32)
    return np.asarray(np.power(signal, np.float32(_SDR_GAMMA)), np.float32)


def compress_highlights(light: Floats) -> Floats:
    """Compress values above `_SHOULDER` to at most 1. The ratio of the channels of a pixel stays."""
    largest = np.maximum(light.max(axis=2, keepdims=True), np.float32(1e-6))
    room = np.float32(1 - _SHOULDER)
    above = np.maximum(largest - np.float32(_SHOULDER), 0)
    compressed = np.where(
        largest <= _SHOULDER, largest, np.float32(_SHOULDER) + room * (1 - np.exp(-above / room))
    )
    return np.asarray(light * (compressed / largest), np.float32)


def light_to_srgb(light: Floats) -> Pixels:
    """8-bit sRGB from linear light in [0, 1]; values outside are clipped."""
    clipped = np.clip(light, 0.0, 1.0)
    encoded = np.where(
        clipped <= 0.0031308,
        clipped * np.float32(12.92),
        np.float32(1.055) * np.power(clipped, np.float32(1 / 2.4)) - np.float32(0.055),
    )
    return np.asarray(np.rint(encoded * 255), np.uint8)


def _matrixed(light: Floats) -> Floats:
    """Linear light with the primaries of BT.709, from that with the primaries of BT.2020; not negative."""
    return np.asarray(np.maximum(light @ _BT2020_TO_BT709.T, np.float32(0)), np.float32)
