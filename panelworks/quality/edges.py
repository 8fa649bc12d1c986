"""Steepness of the lines of a page, distribution of its energy over frequencies, noise and ringing."""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.view import Floats

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
_MIN_EDGE_LEVELS: Final = 40.0
"""Minimum difference between the two sides of a counted edge."""
_EDGE_WINDOW_PIXELS: Final = 9
"""Width of the window in which the two sides are found."""
_RISE_PERCENTILES: Final = (25, 50, 75, 90)
_FINEST_SIGMA_PIXELS: Final = 0.7
"""Sigma of the finest blur. Each octave doubles it."""
_OCTAVES: Final = 4
_HALO_PIXELS: Final = 4
"""Reach of a halo beside an edge."""
_SIDE_PIXELS: Final = 9
"""Pixels of each side of an edge that are looked at; those beyond the halo must be level."""
_MAX_SIDE_RANGE_LEVELS: Final = 8
_SATURATED_LEVELS: Final = 12
"""Sides that are so close to black or white cannot show a halo."""
_MAX_MEASURED_EDGES: Final = 6_000
_MIN_EDGES: Final = 64
_HALO_PERCENTILES: Final = (50, 80)


def measure_rises(luma: Bytes) -> tuple[dict[str, float], Mask]:
    """Measure percentiles of the share of an edge's height in its steepest step, and of the overshoot beside it. Return them
    with the mask of edges.

    After Marziliano et al., A no-reference perceptual blur metric (ICIP 2002), which measures widths: a Gaussian blur
    of s pixels leaves a share of 1 / (s * sqrt(2 pi)) of a step. A page without edges has the value 1.
    """
    shares, halos, near = [], [], np.zeros(luma.shape, dtype=np.bool_)
    for turned in (False, True):
        plane = np.ascontiguousarray(luma.T) if turned else luma
        found, where = _measure_horizontal_rises(plane)
        shares.append(found)
        halos.append(_measure_halos(plane, where))
        near |= where.T if turned else where
    joined = np.concatenate(shares)
    measured = _percentiles("rise", joined, _RISE_PERCENTILES, without=1.0)
    measured |= _percentiles("halo", np.concatenate(halos), _HALO_PERCENTILES, without=0.0)
    return measured | {"edges": joined.size / luma.size if joined.size >= _MIN_EDGES else 0.0}, near


def _percentiles(name: str, values: Floats, parts: tuple[int, ...], *, without: float) -> dict[str, float]:
    """Percentiles by name; `without` if there are too few edges."""
    if values.size < _MIN_EDGES:
        return {f"{name}_{part}": without for part in parts}
    found = np.percentile(values, parts)
    return {f"{name}_{part}": float(value) for part, value in zip(parts, found, strict=True)}


def _measure_horizontal_rises(luma: Bytes) -> tuple[Floats, Mask]:
    if luma.shape[1] < 2:
        return np.zeros(0, dtype=np.float32), np.zeros(luma.shape, dtype=np.bool_)
    row = np.ones((1, _EDGE_WINDOW_PIXELS), np.uint8)
    height = cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, row)
    step = np.zeros_like(luma)
    step[:, 1:] = cv2.absdiff(luma[:, 1:], luma[:, :-1])
    where = (height > _MIN_EDGE_LEVELS) & (step >= cv2.dilate(step, row))
    return np.asarray(step[where] / height[where].astype(np.float32), dtype=np.float32), where


def _measure_halos(luma: Bytes, edges: Mask) -> Floats:
    """The overshoot of each level side of the edges that cross the rows: how far the levels beside the edge exceed the side
    that follows, as a share of the edge's height.

    A page that was enlarged with a filter or sharpened overshoots at its edges; a drawn one does not.
    """
    reach = _SIDE_PIXELS + 1
    if luma.shape[1] <= 2 * reach:
        return np.zeros(0, dtype=np.float32)
    rows, columns = np.nonzero(edges[:, reach:-reach])
    every = max(1, rows.size // _MAX_MEASURED_EDGES)
    rows, columns = rows[::every, None], columns[::every, None] + reach
    offsets = np.arange(_SIDE_PIXELS)
    values = luma.astype(np.int16)
    sides = (values[rows, columns + offsets], values[rows, columns - 1 - offsets])
    found = []
    for side, other in (sides, sides[::-1]):
        beyond = side[:, _HALO_PIXELS:]
        level = beyond.mean(axis=1)
        across = level - other[:, _HALO_PIXELS:].mean(axis=1)
        usable = (
            (np.ptp(beyond, axis=1) <= _MAX_SIDE_RANGE_LEVELS)
            & (np.abs(level - 127.5) < 127.5 - _SATURATED_LEVELS)
            & (np.abs(across) > _MIN_EDGE_LEVELS)
        )
        excess = (side[:, :_HALO_PIXELS] - level[:, None]) * np.sign(across)[:, None]
        found.append((excess.max(axis=1) / np.maximum(np.abs(across), 1))[usable])
    return np.concatenate(found).astype(np.float32)


def measure_spectrum(luma: Floats, near: Mask) -> dict[str, float]:
    """Measure logs of the energy ratios of neighbouring octaves, beside edges and everywhere.

    A band is the difference of two Gaussian blurs. The coarser ones are computed on the reduced page. Enlarged, blurred
    and strongly compressed pages lack the highest band; grain and ringing increase it.
    """
    marks = near.astype(np.float32)
    edge, overall = [], []
    for octave in range(_OCTAVES):
        fine = luma if octave == 0 else cv2.GaussianBlur(luma, (0, 0), _FINEST_SIGMA_PIXELS)
        coarse = cv2.GaussianBlur(luma, (0, 0), _FINEST_SIGMA_PIXELS * (1 if octave == 0 else 2))
        band = np.abs(np.subtract(fine, coarse))
        overall.append(float(band.mean()))
        weight = float(marks.mean())
        edge.append(float((band * marks).mean()) / weight if weight else 0.0)
        if octave:
            half = (max(1, luma.shape[1] // 2), max(1, luma.shape[0] // 2))
            luma, marks = _halve(np.asarray(coarse), half), _halve(marks, half)
    measured: dict[str, float] = {}
    for place, energies in (("edge", edge), ("all", overall)):
        for index in range(_OCTAVES - 1):
            measured[f"octave_{place}_{index}"] = float(
                np.log((energies[index] + 0.05) / (energies[index + 1] + 0.05))
            )
    return measured


def _halve(plane: npt.NDArray[Any], size: tuple[int, int]) -> Floats:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


_BLOCK_PIXELS: Final = 8
_MAX_STEP_LEVELS: Final = 48.0
_LAPLACIAN_KERNEL: Final = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_LAPLACIAN_TO_DEVIATION: Final = float(np.sqrt(np.pi / 2) / 6)
_NEAR_SIDE_PIXELS: Final = 17
"""Side of the square around an edge in which compression rings: one block of 8 on either side."""
_EDGE_SIDE_PIXELS: Final = 5
"""Side of the square around an edge that belongs to the edge itself."""
_MIN_BLOCKS: Final = 16
_MIN_PIXELS: Final = 500


def compute_residual(luma: Floats) -> Floats:
    """Compute the part of each pixel that a slope or flat area does not explain: Immerkaer's Laplacian difference, in
    levels."""
    return np.asarray(
        np.abs(cv2.filter2D(luma, cv2.CV_32F, _LAPLACIAN_KERNEL)) * _LAPLACIAN_TO_DEVIATION, dtype=np.float32
    )


def measure_grain(luma: Bytes, residue: Floats) -> dict[str, float]:
    """Measure noise in the calmest 8x8 blocks, as log: Immerkaer, Fast noise variance estimation (CVIU 64, 1996).

    Saturated blocks (paper, solid black) contain no noise. Blocks crossed by a line, hatching or screentone dots
    contain drawing. Both are skipped.
    """
    deviation = _block_means(residue)
    level = _block_means(luma)
    steps = cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    usable = deviation[(level > 8) & (level < 247) & (_block_means(steps > _MAX_STEP_LEVELS) == 0)]
    if usable.size < _MIN_BLOCKS:
        usable = np.zeros(1, dtype=np.float32)
    quartiles = np.percentile(usable, (10, 25, 50))
    return {
        f"grain_{part}": float(np.log1p(value)) for part, value in zip((10, 25, 50), quartiles, strict=True)
    }


_NOISE_SIGMA_PIXELS: Final = 1.5
"""Sigma of a blur that removes most noise, so that steps of lines are left."""
_MAX_SMOOTH_STEP_LEVELS: Final = 20


def measure_block_grain(luma: Bytes) -> tuple[Floats, Floats, Mask]:
    """Measure the noise of each 8x8 block. Strong noise is not mistaken for lines, as `measure_grain` does.

    Args:
        luma: HxW brightness, whole blocks.

    Returns:
        For each block, the deviation of the noise and the whole deviation, in levels, and whether it has neither saturated
        pixels nor lines.
    """
    plane = luma.astype(np.float32)
    level = _block_means(plane)
    whole = np.sqrt(np.maximum(_block_means(plane * plane) - level * level, 0))
    smooth = cv2.GaussianBlur(luma, (0, 0), _NOISE_SIGMA_PIXELS)
    steps = cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    usable = (level > 8) & (level < 247) & (_block_means(steps > _MAX_SMOOTH_STEP_LEVELS) == 0)
    return _block_means(compute_residual(plane)), whole, usable


def measure_ringing(residue: Floats, edges: Mask) -> dict[str, float]:
    """Measure the log of the residue beside edges and away from them. Clean drawings are calm right up to a line."""
    marks = edges.astype(np.uint8)
    on = cv2.dilate(marks, np.ones((_EDGE_SIDE_PIXELS, _EDGE_SIDE_PIXELS), np.uint8)) > 0
    reach = cv2.dilate(marks, np.ones((_NEAR_SIDE_PIXELS, _NEAR_SIDE_PIXELS), np.uint8)) > 0
    measured: dict[str, float] = {}
    for place, where in (("near", reach & ~on), ("far", ~reach)):
        values = residue[where]
        known = values.size >= _MIN_PIXELS
        measured[f"residue_{place}"] = float(np.log1p(values.mean())) if known else 0.0
        measured[f"calm_{place}"] = float((values < 0.2).mean()) if known else 1.0
    measured["ringing"] = measured["residue_near"] - measured["residue_far"]
    return measured


def _block_means(values: Floats | Bytes | Mask) -> Floats:
    """Means over 8x8 blocks without the incomplete ones at the edge."""
    height, width = (side // _BLOCK_PIXELS * _BLOCK_PIXELS for side in values.shape)
    small = (width // _BLOCK_PIXELS, height // _BLOCK_PIXELS)
    if 0 in small:
        return np.zeros((0, 0), dtype=np.float32)
    cut = values[:height, :width].astype(np.float32, copy=False)
    return np.asarray(cv2.resize(cut, small, interpolation=cv2.INTER_AREA), dtype=np.float32)
