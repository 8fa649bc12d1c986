"""What a crop should keep: faces, lettering with its balloon, and what attracts the eye; and which part of a page keeps it.

Faces come from two bundled detectors, one for drawn and one for photographic faces. Nothing is downloaded.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np

from panelworks.models.face_alignment import FaceClassifier
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.resample import resize
from panelworks.pictures.view import Floats
from panelworks.quality.lettering import Box, find_lettering

_BUNDLED: Final = Path(__file__).parents[1] / "models/bundled"
CLASSIFIER: Final = FaceClassifier(
    _BUNDLED / "face_detection_yunet_2023mar.onnx", _BUNDLED / "lbpcascade_animeface.xml"
)
_VIEW_SIDE_PIXELS: Final = 1000
"""Pictures are reduced to this shorter side for detection."""
_MAX_VIEW_PIXELS: Final = 4_000_000
_POSITIONS: Final = 129
"""Positions of a crop that are compared."""
_SPECTRAL_SIDE_PIXELS: Final = 64
_WEIGHTS: Final = {"face": 0.5, "lettering": 0.1}
"""What a part that is inside a crop is worth, where the whole page's saliency is worth 1."""
_CUT_COSTS: Final = {"face": 0.6, "lettering": 0.35}
"""What a part costs that the edge of a crop cuts."""
_LINE_COST: Final = 0.25
"""What an edge of a crop costs that runs through drawing; a gutter costs nothing."""
_CENTER_COST: Final = 0.05
"""Cost of the crop farthest from the middle of the page, so that a page without content is cropped in the middle."""


@dataclass(frozen=True)
class Part:
    """A part of a page that a crop should not cut."""

    kind: Literal["face", "lettering"]
    box: Box
    """Left, top, right, bottom, in shares of the width and height of the page."""


@dataclass(frozen=True)
class Interest:
    """Where a page shows what."""

    saliency: Floats
    """HxW, the sum is 1."""
    ink: Floats
    """HxW, strength of lines in [0, 1], which a crop should not run through."""
    parts: tuple[Part, ...]


def find_interest(picture: Picture) -> Interest:
    """Find the faces, the lettering and the saliency of a page. Deterministic."""
    paper = flatten_on_white(picture)
    scale = min(1.0, _VIEW_SIDE_PIXELS / min(paper.size), math.sqrt(_MAX_VIEW_PIXELS / math.prod(paper.size)))
    width, height = (max(1, round(side * scale)) for side in paper.size)
    view = resize(paper, (width, height), "bilinear")
    luma = np.ascontiguousarray(view.luma())
    share = (1 / width, 1 / height) * 2
    heads = [_head_of(box) for box in CLASSIFIER.find(view)] if min(width, height) >= 32 else []
    parts = [Part("face", _scaled(box, share)) for box in heads]
    parts += [Part("lettering", _scaled(box, share)) for box in find_lettering(luma)]
    return Interest(_measure_saliency(view), _measure_ink(luma), tuple(parts))


def _head_of(face: Box) -> Box:
    """The head around a detected face."""
    left, top, right, bottom = face
    width, height = right - left, bottom - top
    return (left - 0.25 * width, top - 0.5 * height, right + 0.25 * width, bottom + 0.25 * height)


def _scaled(box: Box, share: tuple[float, ...]) -> Box:
    left, top, right, bottom = (
        min(1.0, max(0.0, side * part)) for side, part in zip(box, share, strict=True)
    )
    return (left, top, right, bottom)


def _measure_saliency(view: Picture) -> Floats:
    """Spectral residual (Hou and Zhang, CVPR 2007) of each channel, with colour and contrast; the sum is 1."""
    side = (_SPECTRAL_SIDE_PIXELS, _SPECTRAL_SIDE_PIXELS)
    small = cv2.resize(view.rgb(), side, interpolation=cv2.INTER_AREA).astype(np.float32)
    found = np.zeros(side, dtype=np.float32)
    for channel in range(3):
        spectrum = np.fft.fft2(small[:, :, channel])
        logs = np.log(np.abs(spectrum) + 1e-6).astype(np.float32)
        residual = logs - cv2.blur(logs, (3, 3))
        found += (np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2).astype(np.float32)
    found = np.asarray(cv2.GaussianBlur(found, (0, 0), 2.5), dtype=np.float32)
    colour = small.max(axis=2) - small.min(axis=2)
    total = found / max(float(found.sum()), 1e-6) + 0.5 * colour / max(float(colour.sum()), 1.0)
    return np.asarray(total / max(float(total.sum()), 1e-6), dtype=np.float32)


def _measure_ink(luma: Pixels) -> Floats:
    gradient = cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.asarray(np.minimum(gradient, 64) / np.float32(64), dtype=np.float32)


def choose_crop(interest: Interest, size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Left and top, in pixels, of the best part of `crop` (width, height) of a page of `size`; one of both is the page's."""
    slack = (size[0] - crop[0], size[1] - crop[1])
    axis = 0 if slack[0] >= slack[1] else 1
    if slack[axis] <= 0:
        return (0, 0)
    length = crop[axis] / size[axis]
    profile, lines = _profiles(interest, axis)
    starts = np.linspace(0, 1 - length, min(_POSITIONS, slack[axis] + 1))
    values = [_value(interest, axis, float(start), length, profile, lines) for start in starts]
    start = round(float(starts[int(np.argmax(np.round(values, 4)))]) * size[axis])
    start = min(start, slack[axis])
    return (start, 0) if axis == 0 else (0, start)


def _profiles(interest: Interest, axis: int) -> tuple[Floats, Floats]:
    """Cumulated saliency, and mean ink of each line across the axis."""
    saliency = interest.saliency.sum(axis=axis)
    cumulated = np.concatenate(([0.0], np.cumsum(saliency))).astype(np.float32)
    return cumulated, np.asarray(interest.ink.mean(axis=axis), dtype=np.float32)


def _value(
    interest: Interest, axis: int, start: float, length: float, profile: Floats, lines: Floats
) -> float:
    end = start + length
    where = np.linspace(0, 1, len(profile))
    inside = float(np.interp(end, where, profile) - np.interp(start, where, profile))
    value = inside - _CENTER_COST * abs(start + length / 2 - 0.5) / 0.5
    for cut in (start, end):
        if 0.002 < cut < 0.998:
            value -= _LINE_COST * float(lines[min(len(lines) - 1, int(cut * len(lines)))])
    for part in interest.parts:
        low, high = part.box[axis], part.box[axis + 2]
        kept = max(0.0, min(high, end) - max(low, start)) / max(high - low, 1e-6)
        if kept >= 0.999:
            value += _WEIGHTS[part.kind]
        elif kept > 0.001:
            value -= _CUT_COSTS[part.kind]
    return value
