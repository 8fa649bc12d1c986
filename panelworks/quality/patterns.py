"""Regular patterns: halftone and screentone dots, and the grid that JPEG or a network leaves."""

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.pictures.view import Floats, View

SIDE: Final = 64
"""Side of the windows whose spectrum is looked at, in pixels."""
_MOST_WINDOWS: Final = 64
_PEAK: Final = 30.0
"""How far the strongest frequency of a window of dots stands out of the median of its band."""
_LEAST_DEVIATION: Final = 4.0


def dotted_share(plane: Floats) -> float:
    """Share of windows in which one frequency, neither a slope's nor a single line's, stands far out."""
    return _dotted(plane)[0]


def dots(view: View) -> dict[str, float]:
    """Dots in brightness and in colour, where print alone has them: its four inks lie at different angles.

    `..._peak` is how far the strongest frequency stands out in the windows where it does most, as log;
    `chroma_detail` compares the finest detail of colour with that of brightness, as log.
    """
    share, peak = _dotted(view.luma)
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
    found = [_dotted(opponent) for opponent in opponents]
    measured["colour_dots"] = max(share for share, _ in found)
    measured["colour_peak"] = max(peak for _, peak in found)
    fine = sum(_fine(opponent) for opponent in opponents)
    measured["chroma_detail"] = float(np.log((fine + 0.1) / (_fine(view.luma) + 0.5)))
    return measured


def _fine(plane: Floats) -> float:
    return float(np.abs(plane - cv2.GaussianBlur(plane, (0, 0), 1.4)).mean())


def _windows(plane: Floats) -> Floats:
    """An even grid of windows over the plane, NxSIDExSIDE."""
    rows, columns = plane.shape[0] // SIDE, plane.shape[1] // SIDE
    every = max(1, round((rows * columns / _MOST_WINDOWS) ** 0.5))
    cut = plane[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2)
    return np.ascontiguousarray(cut[::every, ::every].reshape(-1, SIDE, SIDE))


def _dotted(plane: Floats) -> tuple[float, float]:
    """The share of windows with dots, and the log of how far peaks stand out in the windows where they do most."""
    windows = _windows(plane)
    alive = windows[windows.std(axis=(1, 2)) >= _LEAST_DEVIATION]
    if not alive.size:
        return 0.0, 0.0
    taper, band, angles = _spectral()
    centred = (alive - alive.mean(axis=(1, 2), keepdims=True)) * taper
    values = np.abs(np.fft.rfft2(centred))[:, band]
    strongest = np.argpartition(values, -6, axis=1)[:, -6:]
    # A line has all its energy along one direction, dots along two or more.
    directions = np.abs(angles[strongest].mean(axis=1))
    peaks = values.max(axis=1) / (
        np.partition(values, values.shape[1] // 2, axis=1)[:, values.shape[1] // 2] + 1e-3
    )
    several = directions < 0.8
    share = float(((peaks > _PEAK) & several).sum() / len(windows))
    standing = np.where(several, np.log1p(peaks), 0.0)
    return share, float(np.percentile(standing, 80))


@lru_cache(maxsize=1)
def _spectral() -> tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.complex128]]:
    """The taper of a window, which frequencies are looked at, and their doubled angles."""
    taper = np.hanning(SIDE).astype(np.float32)
    across, down = np.meshgrid(np.fft.rfftfreq(SIDE), np.fft.fftfreq(SIDE))
    radius = np.hypot(across, down)
    band = (radius > 0.1) & (radius < 0.5)
    return taper[:, None] * taper[None, :], band, np.exp(2j * np.arctan2(down[band], across[band]))


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
