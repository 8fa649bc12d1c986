"""How steep the lines of a page are, and how its energy spreads over frequencies."""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.view import Floats

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
_RANGE: Final = 40.0
"""Levels between the two sides of a line or border that is counted."""
_REACH: Final = 9
"""Pixels across which the two sides are looked for."""
_RISES: Final = (25, 50, 75, 90)
_SIGMA: Final = 0.7
"""Of the finest blur, in pixels; each octave has the double."""
_OCTAVES: Final = 4
_LEAST: Final = 64


def rises(luma: Floats) -> tuple[dict[str, float], Mask]:
    """Percentiles of how much of an edge's whole height its steepest step takes, and where edges are.

    After Marziliano et al., A no-reference perceptual blur metric (ICIP 2002), which measures widths: a
    Gaussian blur of s pixels leaves a share of 1 / (s * sqrt(2 pi)) of a step. A page without edges
    answers 1: where there is nothing to blur, nothing is blurred.
    """
    shares, near = [], np.zeros(luma.shape, dtype=np.bool_)
    whole = luma.astype(np.uint8)
    for turned in (False, True):
        found, where = _rises_across(np.ascontiguousarray(whole.T) if turned else whole)
        shares.append(found)
        near |= where.T if turned else where
    joined = np.concatenate(shares)
    if joined.size < _LEAST:
        return {f"rise_{part}": 1.0 for part in _RISES} | {"edges": 0.0}, near
    values = np.percentile(joined, _RISES)
    measured = {f"rise_{part}": float(value) for part, value in zip(_RISES, values, strict=True)}
    return measured | {"edges": joined.size / luma.size}, near


def _rises_across(luma: Bytes) -> tuple[Floats, Mask]:
    if luma.shape[1] < 2:
        return np.zeros(0, dtype=np.float32), np.zeros(luma.shape, dtype=np.bool_)
    row = np.ones((1, _REACH), np.uint8)
    height = cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, row)
    step = np.zeros_like(luma)
    step[:, 1:] = cv2.absdiff(luma[:, 1:], luma[:, :-1])
    where = (height > _RANGE) & (step >= cv2.dilate(step, row))
    return np.asarray(step[where] / height[where].astype(np.float32), dtype=np.float32), where


def spectrum(luma: Floats, near: Mask) -> dict[str, float]:
    """Logarithms of the ratios of energy in neighbouring octaves, beside edges and all over.

    A band is the difference of two Gaussian blurs, the coarser ones taken from the page shrunk; enlarged,
    blurred and strongly compressed pages lack the highest, grain and ringing add to it.
    """
    marks = near.astype(np.float32)
    edge, overall = [], []
    for octave in range(_OCTAVES):
        fine = luma if octave == 0 else cv2.GaussianBlur(luma, (0, 0), _SIGMA)
        coarse = cv2.GaussianBlur(luma, (0, 0), _SIGMA * (1 if octave == 0 else 2))
        band = np.abs(np.subtract(fine, coarse))
        overall.append(float(band.mean()))
        weight = float(marks.mean())
        edge.append(float((band * marks).mean()) / weight if weight else 0.0)
        if octave:
            half = (max(1, luma.shape[1] // 2), max(1, luma.shape[0] // 2))
            luma, marks = _halved(np.asarray(coarse), half), _halved(marks, half)
    measured: dict[str, float] = {}
    for place, energies in (("edge", edge), ("all", overall)):
        for index in range(_OCTAVES - 1):
            measured[f"octave_{place}_{index}"] = float(
                np.log((energies[index] + 0.05) / (energies[index + 1] + 0.05))
            )
    return measured


def _halved(plane: npt.NDArray[Any], size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


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
