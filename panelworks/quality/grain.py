"""Grain in calm places, and the ringing that compression leaves beside lines."""

from typing import Final

import cv2
import numpy as np

from panelworks.quality.edges import Mask
from panelworks.quality.view import Floats

_BLOCK: Final = 8
_LARGEST_STEP: Final = 48.0
_KERNEL: Final = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_TO_DEVIATION: Final = float(np.sqrt(np.pi / 2) / 6)
_NEAR: Final = 17
"""Side of the square around an edge in which compression rings: one block of 8 on either side."""
_ON: Final = 5
"""Side of the square around an edge that belongs to the edge itself."""
_LEAST_BLOCKS: Final = 16
_LEAST_PIXELS: Final = 500


def residual(luma: Floats) -> Floats:
    """What a slope or a flat does not explain of each pixel: Immerkaer's Laplacian difference, in levels."""
    return np.asarray(np.abs(cv2.filter2D(luma, cv2.CV_32F, _KERNEL)) * _TO_DEVIATION, dtype=np.float32)


def grain(luma: Floats, residue: Floats) -> dict[str, float]:
    """Noise by Immerkaer, Fast noise variance estimation (CVIU 64, 1996), in the calmest 8x8 blocks, as log.

    Saturated blocks (paper, solid black) say nothing about noise, and blocks crossed by a line,
    hatching or screentone dots are drawn: both are left out.
    """
    deviation = _means(residue)
    level = _means(luma)
    steps = cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    usable = deviation[(level > 8) & (level < 247) & (_means(steps > _LARGEST_STEP) == 0)]
    if usable.size < _LEAST_BLOCKS:
        usable = np.zeros(1, dtype=np.float32)
    quartiles = np.percentile(usable, (10, 25, 50))
    return {
        f"grain_{part}": float(np.log1p(value)) for part, value in zip((10, 25, 50), quartiles, strict=True)
    }


def ringing(residue: Floats, edges: Mask) -> dict[str, float]:
    """Residue in the block beside edges and away from them, as log: clean drawings are calm right up to a line."""
    marks = edges.astype(np.uint8)
    on = cv2.dilate(marks, np.ones((_ON, _ON), np.uint8)) > 0
    reach = cv2.dilate(marks, np.ones((_NEAR, _NEAR), np.uint8)) > 0
    measured: dict[str, float] = {}
    for place, where in (("near", reach & ~on), ("far", ~reach)):
        values = residue[where]
        known = values.size >= _LEAST_PIXELS
        measured[f"residue_{place}"] = float(np.log1p(values.mean())) if known else 0.0
        measured[f"calm_{place}"] = float((values < 0.2).mean()) if known else 1.0
    measured["ringing"] = measured["residue_near"] - measured["residue_far"]
    return measured


def _means(values: Floats | Mask) -> Floats:
    """Means over 8x8 blocks; the ragged edge is left out."""
    height, width = (side // _BLOCK * _BLOCK for side in values.shape)
    small = (width // _BLOCK, height // _BLOCK)
    if 0 in small:
        return np.zeros((0, 0), dtype=np.float32)
    cut = values[:height, :width].astype(np.float32, copy=False)
    return np.asarray(cv2.resize(cut, small, interpolation=cv2.INTER_AREA), dtype=np.float32)
