"""Regular patterns: halftone and screentone dots, the grid of JPEG or of a network, stairs in slopes."""

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.picture import Pixels
from panelworks.pictures.view import Floats, View

WINDOW_SIDE_PIXELS: Final = 64
"""Side of the windows whose spectrum is computed."""
_MAX_WINDOWS: Final = 64
_MIN_PEAK_RATIO: Final = 30.0
"""Minimum ratio of the strongest frequency to the median of its band in a window with dots."""
_MIN_DEVIATION_LEVELS: Final = 4.0
_STRONGEST_FREQUENCIES: Final = 6
"""Number of frequencies of a window whose direction is measured."""


def measure_dotted_share(plane: Floats) -> float:
    """Share of windows in which one frequency stands out that is not that of a slope or a single line."""
    return _measure_window_dots(plane)[0]


def measure_dots(view: View) -> dict[str, float]:
    """Measure dots in brightness and in colour. Only print has dots in colour: its four inks have different angles.

    `..._peak` is the log of how far the strongest frequency stands out in the windows where it stands out most.
    `chroma_detail` is the log of the ratio of the finest detail of colour to that of brightness.
    """
    share, peak = _measure_window_dots(view.luma)
    measured = {
        "dots": share,
        "dots_peak": peak,
        "colour_dots": 0.0,
        "colour_peak": 0.0,
        "chroma_detail": -2.0,
    }
    if view.colour is None:
        return measured
    red, green, blue = (np.asarray(plane, dtype=np.float32) for plane in cv2.split(view.colour))
    opponents: tuple[Floats, Floats] = (red - green, blue - (red + green) * np.float32(0.5))
    found = [_measure_window_dots(opponent) for opponent in opponents]
    measured["colour_dots"] = max(share for share, _ in found)
    measured["colour_peak"] = max(peak for _, peak in found)
    fine = sum(_fine_detail(opponent) for opponent in opponents)
    measured["chroma_detail"] = float(np.log((fine + 0.1) / (_fine_detail(view.luma) + 0.5)))
    return measured


def _fine_detail(plane: Floats) -> float:
    return float(np.abs(plane - cv2.GaussianBlur(plane, (0, 0), 1.4)).mean())


def _windows(plane: Floats) -> Floats:
    """A regular grid of windows over the plane, NxSIDExSIDE."""
    rows, columns = plane.shape[0] // WINDOW_SIDE_PIXELS, plane.shape[1] // WINDOW_SIDE_PIXELS
    every = max(1, round((rows * columns / _MAX_WINDOWS) ** 0.5))
    cut = (
        plane[: rows * WINDOW_SIDE_PIXELS, : columns * WINDOW_SIDE_PIXELS]
        .reshape(rows, WINDOW_SIDE_PIXELS, columns, WINDOW_SIDE_PIXELS)
        .swapaxes(1, 2)
    )
    return np.ascontiguousarray(cut[::every, ::every].reshape(-1, WINDOW_SIDE_PIXELS, WINDOW_SIDE_PIXELS))


def _measure_window_dots(plane: Floats) -> tuple[float, float]:
    """Share of windows with dots, and log of the peak ratio in the windows where it is largest."""
    windows = _windows(plane)
    alive = windows[windows.std(axis=(1, 2)) >= _MIN_DEVIATION_LEVELS]
    if not alive.size:
        return 0.0, 0.0
    peaks, several = _measure_peaks(alive)
    share = float(((peaks > _MIN_PEAK_RATIO) & several).sum() / len(windows))
    standing = np.where(several, np.log1p(peaks), 0.0)
    return share, float(np.percentile(standing, 80))


def find_dotted_windows(windows: Floats) -> npt.NDArray[np.bool_]:
    """Which of the windows, NxSIDExSIDE, have dots."""
    dotted = np.zeros(len(windows), dtype=np.bool_)
    alive = windows.std(axis=(1, 2)) >= _MIN_DEVIATION_LEVELS
    if alive.any():
        peaks, several = _measure_peaks(windows[alive])
        dotted[alive] = (peaks > _MIN_PEAK_RATIO) & several
    return dotted


def _measure_peaks(alive: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """How far the strongest frequency of each window stands out, and whether the strongest ones have several directions."""
    taper, band, angles = _spectral_constants()
    centred = (alive - alive.mean(axis=(1, 2), keepdims=True)) * taper
    values = np.abs(np.fft.rfft2(centred))[:, band]
    middle = values.shape[1] // 2
    order = np.argpartition(values, (middle, -_STRONGEST_FREQUENCIES), axis=1)
    # The energy of a line has one direction, that of dots two or more.
    directions = np.abs(angles[order[:, -_STRONGEST_FREQUENCIES:]].mean(axis=1))
    median = np.take_along_axis(values, order[:, middle, None], axis=1)[:, 0]
    return values.max(axis=1) / (median + 1e-3), directions < 0.8


_BAND_EDGES: Final = (0.06, 0.12, 0.18, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
"""Limits of the bands of frequencies, in cycles per pixel."""
_ROUNDING_POWER: Final = 1 / 12
"""Power of the rounding to whole levels: less energy than this means nothing."""


def measure_bands(luma: Floats) -> dict[str, float]:
    """Measure the log of the energy of each band of frequencies, relative to the lowest one.

    A filter that enlarges a page leaves hardly any energy above half a cycle per pixel of its source, whatever the page
    shows: 0.25 at a scale of 2. A network and a real page have it.
    """
    names = [f"band_{round(100 * low)}" for low in _BAND_EDGES[1:-1]]
    windows = _windows(luma)
    alive = windows[windows.std(axis=(1, 2)) >= _MIN_DEVIATION_LEVELS]
    if not alive.size:
        return dict.fromkeys(names, 0.0)
    taper = _spectral_constants()[0]
    centred = (alive - alive.mean(axis=(1, 2), keepdims=True)) * taper
    power = (np.abs(np.fft.rfft2(centred)) ** 2).mean(axis=0) / float((taper**2).sum())
    bands = np.bincount(_band_numbers().ravel(), power.ravel(), len(_BAND_EDGES) + 1)[1:-1]
    counts = np.bincount(_band_numbers().ravel(), minlength=len(_BAND_EDGES) + 1)[1:-1]
    levels = np.log(bands / counts + _ROUNDING_POWER)
    return {name: float(level - levels[0]) for name, level in zip(names, levels[1:], strict=True)}


@lru_cache(maxsize=1)
def _band_numbers() -> npt.NDArray[np.int64]:
    """The number of the band of each frequency of a window: 0 below the first, 1 for the first and so on."""
    across, down = np.meshgrid(np.fft.rfftfreq(WINDOW_SIDE_PIXELS), np.fft.fftfreq(WINDOW_SIDE_PIXELS))
    return np.asarray(np.digitize(np.hypot(across, down), _BAND_EDGES), dtype=np.int64)


@lru_cache(maxsize=1)
def _spectral_constants() -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.complex128]]:
    """The taper of a window, the mask of the used frequencies, and their doubled angles."""
    taper = np.hanning(WINDOW_SIDE_PIXELS).astype(np.float32)
    across, down = np.meshgrid(np.fft.rfftfreq(WINDOW_SIDE_PIXELS), np.fft.fftfreq(WINDOW_SIDE_PIXELS))
    radius = np.hypot(across, down)
    band = (radius > 0.1) & (radius < 0.5)
    return taper[:, None] * taper[None, :], band, np.exp(2j * np.arctan2(down[band], across[band]))


_BLOCK_PIXELS: Final = 8
_MIN_STEP_LEVELS: Final = 2
_MAX_STEP_LEVELS: Final = 24
_MIN_SIDE_PIXELS: Final = 64
_MIN_LEVEL_SHARE: Final = 2e-5
"""Minimum share of pixels of a used level."""
_BAND_ROWS: Final = 128
"""Rows that are measured at once: they stay in the cache of a core."""
_MIN_GENTLE_SHARE: Final = 0.005
"""Minimum share of pixels on gentle slopes. A picture with fewer is flat art without gradients."""


def measure_blocks(luma: Pixels) -> dict[str, float]:
    """Measure the share of isolated small steps on the 8x8 grid beyond that off the grid.

    After Wang, Bovik and Evans, Blind measurement of blocking artifacts (ICIP 2000), but steps are counted instead of
    added: drawn lines are few and large, the grid is everywhere and faint. The grid may start anywhere in a cropped
    page: the phase that stands out most is used.
    """
    both = _grid_excess(luma), _grid_excess(transposed(luma))
    return {"grid": max(both), "grid_least": min(both)}


def measure_stairs(luma: Pixels) -> dict[str, float]:
    """Measure stairs: steps of 2..16 levels between two flat runs of 4 pixels.

    `stairs` is their share of all steps of gentle slopes, `stair_rows` the log of their number per thousand pixels,
    `stair_height` their mean height in units of 16 levels.
    """
    both = [_measure_row_stairs(luma), _measure_row_stairs(transposed(luma))]
    return {
        "stairs": max(share for share, _, _ in both),
        "stair_rows": float(np.log1p(1000 * max(density for _, density, _ in both))),
        "stair_height": max(height for _, _, height in both) / 16,
    }


def horizontal_steps(luma: Pixels) -> Pixels:
    """Differences of neighbouring pixels in a row, without sign."""
    return np.asarray(cv2.absdiff(luma[:, 1:], luma[:, :-1]), dtype=np.uint8)


def transposed(luma: Pixels) -> Pixels:
    """A transposed copy of an HxW plane."""
    return np.asarray(cv2.transpose(luma), dtype=np.uint8)


def _grid_excess(luma: Pixels) -> float:
    """Share of isolated steps in the strongest of the eight column phases, minus that of the median phase."""
    if luma.shape[1] < _MIN_SIDE_PIXELS:
        return 0.0
    steps = horizontal_steps(luma)
    middle, beside = steps[:, 1:-1], cv2.max(steps[:, :-2], steps[:, 2:])
    lone = (cv2.subtract(middle, beside) >= _MIN_STEP_LEVELS) & (middle <= _MAX_STEP_LEVELS)
    shares = cv2.reduce(lone.view(np.uint8), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0] / len(lone)
    phases = shares[: shares.size // _BLOCK_PIXELS * _BLOCK_PIXELS].reshape(-1, _BLOCK_PIXELS).mean(axis=0)
    return float(phases.max() - np.median(phases))


def _measure_row_stairs(luma: Pixels) -> tuple[float, float, float]:
    """Share of stairs in the steps of gentle slopes, their number per pixel, and their mean height in levels."""
    if luma.shape[1] < 32:
        return 0.0, 0.0, 0.0
    bands = [_find_row_stairs(luma[top : top + _BAND_ROWS]) for top in range(0, luma.shape[0], _BAND_ROWS)]
    slopes = sum(gentle for gentle, _ in bands)
    heights = np.concatenate([found for _, found in bands])
    size = luma.shape[0] * (luma.shape[1] - 9)
    if slopes <= _MIN_GENTLE_SHARE * size:
        return 0.0, 0.0, 0.0
    height = float(heights.astype(np.float32).mean()) if heights.size else 0.0
    return heights.size / slopes, heights.size / size, height


def _find_row_stairs(luma: Pixels) -> tuple[int, Pixels]:
    """The number of steps of gentle slopes in some rows, and the heights of the stairs."""
    steps = horizontal_steps(luma)
    middle = steps[:, 4:-4]
    # Four zeros in a row, found by the maximum of pairs and of pairs of pairs.
    pairs = cv2.max(steps[:, :-1], steps[:, 1:])
    run = cv2.max(pairs[:, :-2], pairs[:, 2:])
    flat = cv2.max(run[:, : middle.shape[1]], run[:, 5:])
    stairs = cv2.bitwise_and(cv2.inRange(middle, 2, 16), cv2.inRange(flat, 0, 0))
    return cv2.countNonZero(cv2.inRange(middle, 1, 16)), middle[stairs.view(np.bool_)]


_RUN_PIXELS: Final = (4, 64)
"""Minimum and maximum width of a flat band between two steps, in pixels."""


def count_stair_runs(luma: Pixels, side: int, cells: tuple[int, int]) -> tuple[Floats, Floats]:
    """Measure the flat bands of slopes: runs of equal pixels of a row between two of at least three successive steps of up to
    16 levels in one direction.

    Flat colours side by side have such steps too, but hardly three in one direction within a few pixels.

    Args:
        luma: HxW brightness.
        side: Side of a cell in pixels.
        cells: Rows and columns of cells, which cover the plane.

    Returns:
        Number of pixels in bands of each cell, and the sum of the height of the step after each of these pixels, in levels.
    """
    change = np.diff(luma.astype(np.int16), axis=1)
    rows, columns = np.nonzero(change)
    values = change[rows, columns]
    gap = np.diff(columns)
    height = np.abs(values)
    gentle = height <= 16
    band = (np.diff(rows) == 0) & (gap >= _RUN_PIXELS[0]) & (gap <= _RUN_PIXELS[1])
    band &= gentle[:-1] & gentle[1:] & ((values[:-1] > 0) == (values[1:] > 0))
    chained = np.zeros_like(band)
    chained[:-1] |= band[1:]
    chained[1:] |= band[:-1]
    found = np.flatnonzero(band & chained)
    places = rows[found] // side * cells[1] + columns[found] // side
    number = cells[0] * cells[1]
    pixels = np.bincount(places, gap[found], number).reshape(cells)
    heights = np.bincount(places, gap[found] * height[found], number).reshape(cells)
    return pixels.astype(np.float32), heights.astype(np.float32)


def measure_levels(view: View) -> dict[str, float]:
    """Measure the log of the number of levels that the poorest channel uses. Posterising leaves few."""
    planes = [view.luma.astype(np.uint8)] if view.colour is None else list(cv2.split(view.colour))
    counts = [cv2.calcHist([plane], [0], None, [256], [0, 256])[:, 0] for plane in planes]
    used = min(
        int((count > _MIN_LEVEL_SHARE * plane.size).sum())
        for count, plane in zip(counts, planes, strict=True)
    )
    return {"levels": float(np.log2(max(1, used)))}
