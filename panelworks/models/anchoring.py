"""Holding a network to the tones of its source.

Networks trained against a critic drift: a sky turns by five levels, paper turns yellow. What a network may
change is detail; the calm parts of a page are brought back to the tones they had, smoothly, and
pixels beside lines, where the network has its say, are left out of the measure. The idea is that of the
colour correction of diffusion upscalers (Wang et al., StableSR, IJCV 2024), which replace low frequencies.
"""

from typing import Final

import cv2
import numpy as np

from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.view import Floats, Pair

_REACH: Final = 8.0
"""Standard deviation of the smoothing, in pixels of the source."""
_CALM: Final = 6.0
"""Gradient, in levels a pixel, at which a pixel's say has fallen to a third."""
_FLOOR: Final = 0.05
"""Say of nobody: where no pixel around is calm, nothing is corrected."""
_MOST: Final = 8.0
"""Most that is corrected, in levels. A network that is further off is at fault, and validation shall see it."""
_BAND: Final = 512
"""Most rows of the source that are corrected at once."""
_AT_ONCE: Final = 16_000_000
"""Most values of the result that are corrected at once, whatever the width of a page."""
_HALO: Final = 32
"""Rows above and below that a band must know: four standard deviations."""


def anchor(source: Pixels, result: Pixels) -> None:
    """Give the result, in place, the low frequencies that the source has in its calm parts.

    Args:
        source: HxWxC, what the network was given.
        result: What it made, (H*scale)x(W*scale)xC with a whole scale.
    """
    height, scale = source.shape[0], result.shape[0] // source.shape[0]
    band = max(_HALO, min(_BAND, _AT_ONCE // (result[0].size * scale)))
    corrected_to, held_back = 0, result[:0].copy()
    for top in range(0, height, band):
        above, bottom = max(0, top - _HALO), min(height, top + band)
        below = min(height, bottom + _HALO)
        known = result[above * scale : below * scale].copy()
        # Rows above were corrected already: the band must see them as the network left them.
        known[: held_back.shape[0]] = held_back
        correction = _correction(source[above:below], known)
        start, end = (top - above) * scale, (bottom - above) * scale
        enlarged = _enlarged(correction, scale)[start:end]
        enlarged += known[start:end]
        result[corrected_to : bottom * scale] = np.clip(np.rint(enlarged, out=enlarged), 0, 255, out=enlarged)
        held_back = known[max(start, end - _HALO * scale) : end].copy()
        corrected_to = bottom * scale


def _correction(source: Pixels, result: Pixels) -> Floats:
    """What is missing to the calm parts of the source, smoothed, at its size."""
    pair = Pair(Picture(source), Picture(result))
    drift = pair.was.astype(np.float32) - pair.now
    say = np.exp(-((pair.steepness / np.float32(_CALM)) ** 2))
    known = cv2.GaussianBlur(say, (0, 0), _REACH) + _FLOOR
    smooth = cv2.GaussianBlur(drift * say[:, :, None], (0, 0), _REACH).reshape(drift.shape)
    return np.asarray(np.clip(smooth / known[:, :, None], -_MOST, _MOST), dtype=np.float32)


def _enlarged(correction: Floats, scale: int) -> Floats:
    height, width = correction.shape[:2]
    size = (width * scale, height * scale)
    enlarged = np.asarray(cv2.resize(correction, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return enlarged.reshape(*size[::-1], -1)
