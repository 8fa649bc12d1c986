"""Technical scorers: each looks at brightness alone and answers in [0, 1], 1 being best.

They are model-free and cost a few milliseconds a megapixel. Paper, solid black and flat colour are
art: where there is nothing to measure the answer is 1, never a division by zero.
"""

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.float32]
"""HxW brightness, 0..255."""


class Scorer(Protocol):
    """One quality measure. A learned metric plugs in by offering the same."""

    name: str
    weight: float
    """Share in the technical score, relative to the other scorers."""

    def score(self, luma: Luma) -> float:
        """The score in [0, 1]."""
        ...


def _ramp(value: float, worst: float, best: float) -> float:
    """0 at `worst`, 1 at `best`, linear between, clipped outside."""
    return float(np.clip((value - worst) / (best - worst), 0.0, 1.0))


class Sharpness:
    """Crete et al., The blur effect (SPIE 6492, 2007): how much contrast a further blur takes away.

    Only steps of at least eight levels count, so that flat colour is not taken for blur.
    """

    name = "sharpness"
    weight = 2.0
    _STEP: Final = 8.0

    def score(self, luma: Luma) -> float:
        losses = [self._loss(luma), self._loss(luma.T)]
        known = [loss for loss in losses if loss is not None]
        return _ramp(min(known), 0.2, 0.74) if known else 1.0

    def _loss(self, luma: Luma) -> float | None:
        """Share of the steps along a row that a 9-pixel box blur removes; None without steps."""
        if luma.shape[1] < 16:
            return None
        sums = np.cumsum(luma, axis=1, dtype=np.float32)
        blurred = (sums[:, 9:] - sums[:, :-9]) / 9
        steps = np.abs(np.diff(luma[:, 5:-4], axis=1))
        kept = np.abs(np.diff(blurred, axis=1))
        counted = steps >= self._STEP
        total = float(steps[counted].sum())
        if total == 0:
            return None
        return float(np.maximum(steps - kept, 0)[counted].sum()) / total


class Noise:
    """Immerkaer, Fast noise variance estimation (CVIU 64, 1996), on the calmest quarter of 8x8 blocks.

    Saturated blocks (paper, solid black) say nothing about noise, and blocks crossed by a line,
    hatching or screentone dots are drawn: both are left out.
    """

    name = "noise"
    weight = 1.0
    _LARGEST_STEP: Final = 48.0

    def score(self, luma: Luma) -> float:
        if min(luma.shape) < 24:
            return 1.0
        rows = luma[:-2] - 2 * luma[1:-1] + luma[2:]
        laplacian = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
        deviation = _block_means(laplacian) * (np.sqrt(np.pi / 2) / 6)
        level = _block_means(luma[1:-1, 1:-1])
        steps = np.maximum(
            np.abs(luma[1:-1, 1:-1] - luma[1:-1, :-2]), np.abs(luma[1:-1, 1:-1] - luma[:-2, 1:-1])
        )
        drawn = _block_means((steps > self._LARGEST_STEP).astype(np.float32)) > 0
        usable = deviation[(level > 8) & (level < 247) & ~drawn]
        if usable.size < 16:
            return 1.0
        return _ramp(float(np.percentile(usable, 25)), 10.0, 1.0)


class Blockiness:
    """How many pixels on the 8x8 grid of JPEG carry a lone small step, beyond those off the grid.

    After Wang, Bovik and Evans, Blind measurement of blocking artifacts (ICIP 2000), but counting
    steps rather than adding them up: drawn lines are few and large, the grid is everywhere and faint.
    The grid may start anywhere (cropped pages): the phase that stands out most is taken.
    """

    name = "blockiness"
    weight = 1.5
    _SMALLEST_STEP: Final = 1.25
    _LARGEST_STEP: Final = 24.0

    def score(self, luma: Luma) -> float:
        return _ramp(max(self._excess(luma), self._excess(luma.T)), 0.2, 0.02)

    def _excess(self, luma: Luma) -> float:
        """Share of lone steps in the strongest of the eight column phases, less that of the median one."""
        if luma.shape[1] < 64:
            return 0.0
        steps = np.abs(np.diff(luma, axis=1))
        middle, beside = steps[:, 1:-1], np.maximum(steps[:, :-2], steps[:, 2:])
        lone = (middle > beside + self._SMALLEST_STEP) & (middle <= self._LARGEST_STEP)
        shares = lone.mean(axis=0)
        phases = shares[: shares.size // 8 * 8].reshape(-1, 8).mean(axis=0)
        return float(phases.max() - np.median(phases))


class Banding:
    """Share of gentle slopes that are stairs: a step of 2..8 levels between two flat runs of 4 pixels."""

    name = "banding"
    weight = 1.0

    def score(self, luma: Luma) -> float:
        return _ramp(max(self._stairs(luma), self._stairs(luma.T)), 0.6, 0.05)

    def _stairs(self, luma: Luma) -> float:
        if luma.shape[1] < 32:
            return 0.0
        steps = np.abs(np.diff(luma, axis=1))
        flat = steps < 0.5
        run = flat[:, :-3] & flat[:, 1:-2] & flat[:, 2:-1] & flat[:, 3:]
        middle = steps[:, 4:-4]
        gentle = (middle >= 0.5) & (middle <= 8)
        stairs = (middle >= 2) & (middle <= 8) & run[:, : middle.shape[1]] & run[:, 5:]
        slopes = int(gentle.sum())
        # Fewer slopes than half a per cent of the picture are flat art, not a gradient.
        return float(stairs.sum()) / slopes if slopes > 0.005 * middle.size else 0.0


class Contrast:
    """Range between the 1st and 99th percentile of brightness; 60 % of the scale is enough."""

    name = "contrast"
    weight = 0.5

    def score(self, luma: Luma) -> float:
        low, high = np.percentile(luma, [1, 99])
        return _ramp(float(high - low), 0.0, 153.0)


def _block_means(values: Luma) -> Luma:
    """Means over 8x8 blocks; the ragged edge is left out."""
    height, width = values.shape[0] // 8 * 8, values.shape[1] // 8 * 8
    blocks = values[:height, :width].reshape(height // 8, 8, width // 8, 8)
    means: Luma = blocks.mean(axis=(1, 3))
    return means


SCORERS: Final[tuple[Scorer, ...]] = (Sharpness(), Noise(), Blockiness(), Banding(), Contrast())
"""The scorers of a report, in the order in which they are shown."""
