"""Choosing the quality of a lossy file: by its similarity to the picture, or by a maximum number of bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.view import Floats

TARGET_SIMILARITY: Final = 0.98
"""SSIM of luma that `quality: auto` reaches. `python -m benchmarks.formats` prints the sizes."""
_LOWEST, _HIGHEST = 30, 95
_SAMPLE_SIDE_PIXELS: Final = 256
_SAMPLES: Final = 6
_SIGMA_PIXELS: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2


def measure_similarity(first: Pixels, second: Pixels) -> float:
    """Mean SSIM of two HxW planes of equal size, in [-1, 1] (Wang et al., IEEE TIP 13, 2004); 1 for equal planes."""

    def blur(plane: Floats) -> Floats:
        return np.asarray(cv2.GaussianBlur(plane, (11, 11), _SIGMA_PIXELS), dtype=np.float32)

    one, two = first.astype(np.float32), second.astype(np.float32)
    mean_one, mean_two = blur(one), blur(two)
    squares = mean_one * mean_one + mean_two * mean_two
    variances = blur(one * one) + blur(two * two) - squares
    covariance = blur(one * two) - mean_one * mean_two
    top = (2 * mean_one * mean_two + _C1) * (2 * covariance + _C2)
    return float((top / ((squares + _C1) * (variances + _C2))).mean())


def sample_of(picture: Picture) -> Picture:
    """The squares of a picture with the most detail, one below the other: their similarity stands for the whole picture."""
    side = _SAMPLE_SIDE_PIXELS
    if picture.width * picture.height <= _SAMPLES * side * side or min(picture.size) < side:
        return picture.region(0, 0, min(picture.width, 1536), min(picture.height, 1536))
    luma = picture.luma()
    corners = [
        (top, left)
        for top in range(0, picture.height - side + 1, side)
        for left in range(0, picture.width - side + 1, side)
    ]
    detail = [float(luma[top : top + side : 2, left : left + side : 2].std()) for top, left in corners]
    order = sorted(range(len(corners)), key=lambda index: (-detail[index], index))
    # The busiest squares alone would raise the quality of calm pages: take them from the whole range.
    chosen = [corners[order[len(order) * step // _SAMPLES]] for step in range(_SAMPLES)]
    parts = [picture.pixels[top : top + side, left : left + side] for top, left in chosen]
    alphas = (
        None
        if picture.alpha is None
        else [picture.alpha[top : top + side, left : left + side] for top, left in chosen]
    )
    return Picture(np.concatenate(parts), None if alphas is None else np.concatenate(alphas))


def find_quality(picture: Picture, decoded: Callable[[Picture, int], Pixels]) -> int:
    """The lowest quality at which a picture keeps `TARGET_SIMILARITY`, at most 95.

    Args:
        picture: The picture, without alpha.
        decoded: Encodes a picture with a quality and returns the luma that a viewer decodes.
    """
    part = sample_of(picture)
    luma = part.luma()
    low, high = _LOWEST, _HIGHEST
    while low < high:
        middle = (low + high) // 2
        if measure_similarity(luma, decoded(part, middle)) >= TARGET_SIMILARITY:
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True)
class Limited:
    """A file that was made small."""

    data: bytes
    quality: int
    fits: bool
    """False: even the lowest quality has more bytes."""


def limit_bytes(encode: Callable[[int], bytes], highest: int, lowest: int, limit: int) -> Limited:
    """The file with the highest quality from `lowest` to `highest` that has at most `limit` bytes, or that of the lowest."""
    data = encode(highest)
    if len(data) <= limit:
        return Limited(data, highest, fits=True)
    best = Limited(encode(lowest), lowest, fits=False) if lowest < highest else Limited(data, highest, False)
    if len(best.data) > limit:
        return best
    best = Limited(best.data, lowest, fits=True)
    low, high = lowest + 1, highest - 1
    while low <= high:
        middle = (low + high) // 2
        data = encode(middle)
        if len(data) <= limit:
            best, low = Limited(data, middle, fits=True), middle + 1
        else:
            high = middle - 1
    return best
