"""Regular dots: the screentone of a manga, which is art, and the halftone of print, which is not."""

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.quality.view import Floats, View

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
