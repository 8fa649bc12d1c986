"""Colour spaces that a file states by numbers instead of a profile: PNG's cICP, cHRM and gAMA, EXIF's Adobe RGB.

The order of precedence is that of the PNG specification (third edition, 4.3), libpng and Skia: cICP, iCCP, sRGB, then
cHRM with gAMA. A gamma within five per cent of 1/2.2 counts as the curve of sRGB, as in libpng: many programs write
45455 and mean sRGB.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from panelworks.pictures.picture import Pixels

Values = npt.NDArray[Any]
Curve = Callable[[Values], Values]
Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue."""

_D65: Final = (0.3127, 0.3290)
_SRGB: Final[Chromaticities] = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_PRIMARIES: Final[dict[int, tuple[str, Chromaticities]]] = {
    1: ("BT.709", _SRGB),
    4: ("NTSC 1953", (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("PAL", (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06)),
    6: ("NTSC", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    7: ("NTSC", (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
    12: ("Display P3", (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)),
}
"""ITU-T H.273, table 2."""
_ADOBE_RGB: Final[Chromaticities] = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA: Final = 563 / 256
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_GAMMA: Final = 45455
_GAMMA_TOLERANCE: Final = 0.05
_CHROMATICITY_TOLERANCE: Final = 0.01
_REFERENCE_WHITE_NITS: Final = 203
"""Luminance of white paper in HDR pictures (ITU-R BT.2408). Brighter values become white."""
_BAND_ROWS: Final = 256


@dataclass(frozen=True)
class ColourSpace:
    """A colour space with three primaries and one curve."""

    name: str
    white_and_primaries: Chromaticities
    to_linear: Curve

    def to_srgb(self, values: npt.NDArray[Any]) -> Pixels:
        """Convert HxWxC values of 8 or 16 bits, gray or RGB, to 8-bit sRGB."""
        most = int(np.iinfo(values.dtype).max)
        linear = self.to_linear(np.arange(most + 1, dtype=np.float32) / most)
        if values.shape[2] == 1:
            gray: Pixels = _to_bytes(_encode_srgb(linear))[values]
            return gray
        matrix = (np.linalg.inv(_to_xyz(_SRGB)) @ _to_xyz(self.white_and_primaries)).astype(np.float32)
        pixels = np.empty(values.shape, np.uint8)
        for top in range(0, values.shape[0], _BAND_ROWS):
            pixels[top : top + _BAND_ROWS] = _to_bytes(
                _encode_srgb(linear[values[top : top + _BAND_ROWS]] @ matrix.T)
            )
        return pixels


def colour_space_of(info: Mapping[str, Any]) -> ColourSpace | None:
    """The colour space stated by a PNG's chunks, except its profile; None if it is sRGB or unknown."""
    if outranks_profile(info):
        return _space_from_cicp(info["cICP"])
    return None if "sRGB" in info else _space_from_primaries_and_gamma(info)


def outranks_profile(info: Mapping[str, Any]) -> bool:
    """Whether cICP states a known colour space. Then it has precedence over a profile."""
    chunk = info.get("cICP", b"")
    return len(chunk) == 4 and chunk[0] in _PRIMARIES and chunk[1] in _TRANSFERS and not chunk[2]


def adobe_rgb() -> ColourSpace:
    """Adobe RGB (1998), which cameras state in EXIF."""
    return ColourSpace("Adobe RGB", _ADOBE_RGB, _power_curve(_ADOBE_GAMMA))


def gray_curve(profile: bytes) -> Curve | None:
    """The tone curve of a gray ICC profile, from its values to linear light; None if it has no known curve."""
    count = int.from_bytes(profile[128:132], "big")
    for number in range(min(count, 100)):
        tag, start, size = struct.unpack_from(
            ">4sII", profile.ljust(132 + 12 * (number + 1), b"\x00"), 132 + 12 * number
        )
        if tag == b"kTRC":
            return _parse_tone_curve(profile[start : start + size])
    return None


def encode_gray(values: npt.NDArray[Any], curve: Curve) -> Pixels:
    """Convert 16-bit gray to 8-bit sRGB gray."""
    return ColourSpace("gray", _SRGB, curve).to_srgb(values[:, :, None])


def _space_from_cicp(chunk: bytes) -> ColourSpace | None:
    primaries, transfer = chunk[0], chunk[1]
    if primaries == 1 and transfer == 13:
        return None
    name, chromaticities = _PRIMARIES[primaries]
    label, curve = _TRANSFERS[transfer]
    return ColourSpace(f"{name}{label}", chromaticities, curve)


def _space_from_primaries_and_gamma(info: Mapping[str, Any]) -> ColourSpace | None:
    chromaticities = _SRGB
    names = []
    if "cHRM" in info:
        read = tuple(value / 100_000 for value in struct.unpack(">8I", info["cHRM"]))
        far = max(abs(one - other) for one, other in zip(read, _SRGB, strict=True)) > _CHROMATICITY_TOLERANCE
        if far and _is_sensible(read):
            chromaticities = read
            names.append("its own primaries")
    curve: Curve = _from_srgb
    if "gAMA" in info:
        gamma = int.from_bytes(info["gAMA"], "big")
        unusual = abs(gamma / _SRGB_GAMMA - 1) > _GAMMA_TOLERANCE
        if unusual and 10_000 <= gamma <= 1_000_000:
            curve = _power_curve(100_000 / gamma)
            names.append("linear light" if gamma == 100_000 else f"gamma {100_000 / gamma:.2f}")
    return ColourSpace(" and ".join(names), chromaticities, curve) if names else None


def _is_sensible(read: tuple[float, ...]) -> bool:
    """Whether the primaries span a triangle and all values are valid."""
    if any(value > 1 for value in read) or min(read[1::2]) <= 0:
        return False
    (ax, ay), (bx, by), (cx, cy) = ((read[at], read[at + 1]) for at in (2, 4, 6))
    return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) > 0.01


def _to_xyz(chromaticities: Chromaticities) -> npt.NDArray[np.float64]:
    """The 3x3 matrix from linear RGB to XYZ, adapted to D65."""
    points = np.array(chromaticities).reshape(4, 2)
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in points])
    primaries, white = xyz[1:].T, xyz[0]
    matrix = primaries * np.linalg.solve(primaries, white)
    target = np.array([_D65[0] / _D65[1], 1.0, (1 - sum(_D65)) / _D65[1]])
    scale = np.diag((_BRADFORD @ target) / (_BRADFORD @ white))
    adapted: npt.NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD @ matrix
    return adapted


def _encode_srgb(linear: Values) -> Values:
    clipped = np.clip(linear, 0, 1)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** np.float32(1 / 2.4) - 0.055)


def _to_bytes(values: Values) -> Pixels:
    rounded: Pixels = np.rint(values * 255).astype(np.uint8)
    return rounded


def _from_srgb(values: Values) -> Values:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** np.float32(2.4))


def _from_bt709(values: Values) -> Values:
    return np.where(values < 0.081, values / 4.5, ((values + 0.099) / 1.099) ** np.float32(1 / 0.45))


def _from_pq(values: Values) -> Values:
    power = values ** np.float32(32 / 2523)
    relative = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    nits: Values = 10_000 * relative ** np.float32(8192 / 1305)
    paper_is_one: Values = nits / _REFERENCE_WHITE_NITS
    return paper_is_one


def _from_hlg(values: Values) -> Values:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    return 1000 / _REFERENCE_WHITE_NITS * scene ** np.float32(1.2)


def _power_curve(exponent: float) -> Curve:
    return lambda values: values ** np.float32(exponent)


_TRANSFERS: Final[dict[int, tuple[str, Curve]]] = {
    1: (" with its own curve", _from_bt709),
    4: (" with gamma 2.2", _power_curve(2.2)),
    5: (" with gamma 2.8", _power_curve(2.8)),
    6: (" with its own curve", _from_bt709),
    8: (" in linear light", _power_curve(1)),
    13: ("", _from_srgb),
    14: (" with its own curve", _from_bt709),
    15: (" with its own curve", _from_bt709),
    16: (" with the HDR curve PQ, highlights clipped", _from_pq),
    18: (" with the HDR curve HLG, highlights clipped", _from_hlg),
}
"""ITU-T H.273, table 3."""


def _parse_tone_curve(tag: bytes) -> Curve | None:
    """A `curv` or `para` element (ICC.1:2022, 10.6 and 10.18)."""
    kind, count = tag[:4], int.from_bytes(tag[8:12], "big")
    if kind == b"curv" and len(tag) >= 12 + 2 * count:
        entries = np.frombuffer(tag[12 : 12 + 2 * count], ">u2").astype(np.float32)
        if count == 0:
            return _power_curve(1)
        if count == 1:
            return _power_curve(float(entries[0]) / 256)
        places = np.linspace(0, 1, count, dtype=np.float32)
        return lambda values: np.interp(values, places, entries / 65535).astype(np.float32)
    needed = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}.get(int.from_bytes(tag[8:10], "big"), 99)
    if kind != b"para" or len(tag) < 12 + 4 * needed:
        return None
    numbers = [value / 65536 for value in struct.unpack(f">{needed}i", tag[12 : 12 + 4 * needed])]
    numbers += [0.0] * (7 - needed)
    g, a, b, c, d, e, f = numbers
    if needed == 1:
        return _power_curve(g)
    if needed in (3, 4):  # below -b/a the curve is constant
        return lambda values: np.maximum(a * values + b, 0) ** np.float32(g) + c
    return lambda values: np.where(
        values >= d, np.maximum(a * values + b, 0) ** np.float32(g) + e, c * values + f
    )
