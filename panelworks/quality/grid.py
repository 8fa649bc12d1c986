"""The grid of blocks that JPEG and its kin leave behind, and stairs where a slope should be."""

from typing import Final

import cv2
import numpy as np

from panelworks.quality.view import Floats, View

_BLOCK: Final = 8
_SMALLEST_STEP: Final = 1.25
_LARGEST_STEP: Final = 24.0
_LEAST_SIDE: Final = 64
_LEAST_USED: Final = 2e-5
"""Share of the pixels from which a level counts as used."""
_GENTLE_SHARE: Final = 0.005
"""Share of pixels on gentle slopes below which a picture is flat art, not a gradient."""


def blocks(luma: Floats) -> dict[str, float]:
    """How many pixels on the 8x8 grid carry a lone small step, beyond those off the grid, as a share.

    After Wang, Bovik and Evans, Blind measurement of blocking artifacts (ICIP 2000), but counting
    steps rather than adding them up: drawn lines are few and large, the grid is everywhere and faint.
    The grid may start anywhere (cropped pages): the phase that stands out most is taken.
    """
    both = _excess(luma), _excess(np.ascontiguousarray(luma.T))
    return {"grid": max(both), "grid_least": min(both)}


def stairs(luma: Floats) -> dict[str, float]:
    """Stairs: a step of 2..16 levels between two flat runs of 4 pixels.

    `stairs` is their share among all steps of gentle slopes, `stair_rows` the log of their number a
    thousand pixels, `stair_height` their mean height in levels.
    """
    both = [_stairs(luma), _stairs(np.ascontiguousarray(luma.T))]
    return {
        "stairs": max(share for share, _, _ in both),
        "stair_rows": float(np.log1p(1000 * max(density for _, density, _ in both))),
        "stair_height": max(height for _, _, height in both) / 16,
    }


def _excess(luma: Floats) -> float:
    """Share of lone steps in the strongest of the eight column phases, less that of the median one."""
    if luma.shape[1] < _LEAST_SIDE:
        return 0.0
    steps = np.abs(np.diff(luma, axis=1))
    middle, beside = steps[:, 1:-1], np.maximum(steps[:, :-2], steps[:, 2:])
    lone = (middle > beside + _SMALLEST_STEP) & (middle <= _LARGEST_STEP)
    shares = lone.mean(axis=0)
    phases = shares[: shares.size // _BLOCK * _BLOCK].reshape(-1, _BLOCK).mean(axis=0)
    return float(phases.max() - np.median(phases))


def _stairs(luma: Floats) -> tuple[float, float, float]:
    if luma.shape[1] < 32:
        return 0.0, 0.0, 0.0
    steps = np.abs(np.diff(luma, axis=1))
    flat = steps < 0.5
    run = flat[:, :-3] & flat[:, 1:-2] & flat[:, 2:-1] & flat[:, 3:]
    middle = steps[:, 4:-4]
    gentle = (middle >= 0.5) & (middle <= 16)
    stair = gentle & (middle >= 2) & run[:, : middle.shape[1]] & run[:, 5:]
    slopes, found = int(gentle.sum()), int(stair.sum())
    if slopes <= _GENTLE_SHARE * middle.size:
        return 0.0, 0.0, 0.0
    return found / slopes, found / middle.size, float(middle[stair].mean()) if found else 0.0


def levels(view: View) -> dict[str, float]:
    """How many levels the poorest channel uses, as log: posterising leaves a few, and evenly spaced ones."""
    planes = [view.luma.astype(np.uint8)] if view.colour is None else list(cv2.split(view.colour))
    counts = [cv2.calcHist([plane], [0], None, [256], [0, 256])[:, 0] for plane in planes]
    used = min(
        int((count > _LEAST_USED * plane.size).sum()) for count, plane in zip(counts, planes, strict=True)
    )
    return {"levels": float(np.log2(max(1, used)))}
