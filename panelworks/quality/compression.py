"""How strongly a page was compressed, judged by its pixels."""

import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.pictures.picture import Picture, Pixels

Floats = npt.NDArray[np.float32]

_BLOCK: Final = 8
_CANDIDATES: Final = tuple(range(10, 96, 5))
"""JPEG qualities that are told apart."""
_MOST_BLOCKS: Final = 4096
_LEAST_BLOCKS: Final = 64
_LIVELY: Final = 1.5
"""A coefficient says something if it is this many of its steps large, on average over the blocks that say most."""
_FIT: Final = 0.62
"""Mean distance from the steps of a quality, relative to chance, below which a page was made with it."""


def estimated_quality(picture: Picture) -> int | None:
    """The quality (10..95) of the JPEG that a page was, judged by its pixels; None for no JPEG, or one cropped.

    Coefficients of 8x8 blocks cluster at multiples of their quantisation steps (Fan and de Queiroz,
    Identification of bitmap compression history, IEEE TIP 12, 2003).
    """
    coefficients = _coefficients(picture.luma())
    if coefficients is None:
        return None
    fits = {quality: _misfit(coefficients, _steps(quality)) for quality in _CANDIDATES}
    best = min(fits, key=lambda quality: fits[quality])
    return best if fits[best] < _FIT else None


def _coefficients(luma: Pixels) -> Floats | None:
    """Block transforms, Nx8x8, of blocks on the page's own grid that are not flat."""
    height, width = (side // _BLOCK * _BLOCK for side in luma.shape)
    grid = luma[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    blocks = grid.swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK)
    blocks = blocks[:: max(1, blocks.shape[0] // (8 * _MOST_BLOCKS))]
    alive = blocks[
        (blocks.max(axis=(1, 2)) < 255) & (blocks.min(axis=(1, 2)) > 0) & (np.ptp(blocks, axis=(1, 2)) > 8)
    ]
    if alive.shape[0] < _LEAST_BLOCKS:
        return None
    alive = alive[:: max(1, alive.shape[0] // _MOST_BLOCKS)].astype(np.float32) - 128
    basis = _basis()
    transformed: Floats = basis @ alive @ basis.T
    return transformed


def _basis() -> Floats:
    """The 8-point DCT-II, orthonormal."""
    k, n = np.mgrid[0:_BLOCK, 0:_BLOCK].astype(np.float32)
    basis: Floats = np.sqrt(2 / _BLOCK) * np.cos(np.pi * (2 * n + 1) * k / (2 * _BLOCK))
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


def _steps(quality: int) -> Floats:
    """Quantisation steps of brightness as libjpeg makes them from a quality, 8x8."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        steps: Floats = np.array(image.quantization[0], dtype=np.float32).reshape(_BLOCK, _BLOCK)  # type: ignore[attr-defined]
        return steps


def _misfit(coefficients: Floats, steps: Floats) -> float:
    """Mean distance of lively coefficients from multiples of their steps, over what chance would give."""
    scaled = coefficients / steps
    lively = (np.abs(scaled) >= 1 - 0.5 / steps) & (steps >= 3)
    if int(lively.sum()) < _LEAST_BLOCKS:
        return 1.0
    # Rounding to whole levels moves a coefficient by up to about half a level.
    off = np.abs(scaled - np.rint(scaled))
    chance = np.broadcast_to(np.float32(0.25), steps.shape)
    return float((off / chance)[lively].mean())
