"""Scorers: each looks at the views of a page and answers in [0, 1], 1 being best.

Paper, solid black and flat colour are art: where there is nothing to measure the answer is 1, never a
division by zero.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from panelworks.domain.quality import QualityReport
from panelworks.pictures.picture import Picture
from panelworks.pictures.view import Floats, View, views_of
from panelworks.quality.compression import estimated_quality
from panelworks.quality.content import content_of
from panelworks.quality.measures import drawn_head, joined, measure

_STEPS: Final = 4
"""Steps of a soft slope."""


class Scorer(Protocol):
    """One or several components of the technical score. A learned metric plugs in by offering the same."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Exponent of each component in the technical score."""
        ...

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        """The score of each component, in [0, 1]."""
        ...


class DrawnPage:
    """Sharpness, noise, compression, banding and halftone, from measures whose meaning was fitted on drawn pages."""

    weights: Final = dict.fromkeys(("sharpness", "noise", "compression", "banding", "halftone"), 1.0)
    _LEAST_RANGE: Final = 8.0
    """Levels between the darkest and the lightest pixel below which nothing is drawn."""
    _LEAST_SIDE: Final = 24

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        drawn = [view for view in views if self._drawn(view)]
        if not drawn:
            return dict.fromkeys(self.weights, 1.0)
        return drawn_head().scores(joined(measure(view) for view in drawn))

    def _drawn(self, view: View) -> bool:
        return min(view.luma.shape) >= self._LEAST_SIDE and float(np.ptp(view.luma)) >= self._LEAST_RANGE


class Tones:
    """Contrast, and slopes that run into the end of the scale.

    Contrast is the range between the 1st and 99th percentile of brightness; 60 % of the scale is enough.
    Clipping is the share of soft slopes (four steps of 2 to 6 levels, one after the other) that end in pure
    white or black at once: paper and solid ink are bordered by lines, a blown-out sky by a slope.
    """

    weights: Final = {"contrast": 0.25, "clipping": 0.1}
    _ENOUGH: Final = 153.0
    _WORST_SHARE: Final = 0.6
    _FREE_SHARE: Final = 0.2
    _LEAST_SLOPES: Final = 0.01
    _LEAST: Final = 0.2
    """Least score: neither makes a page worthless."""

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        ranges = [float(np.subtract(*np.percentile(view.luma[::2, ::2], [99, 1]))) for view in views]
        clipped = float(np.mean([self._clipped(view.luma) for view in views]))
        return {
            "contrast": max(self._LEAST, _ramp(max(ranges), 0.0, self._ENOUGH)),
            "clipping": max(self._LEAST, _ramp(clipped, self._WORST_SHARE, self._FREE_SHARE)),
        }

    def _clipped(self, luma: Floats) -> float:
        if luma.shape[1] <= _STEPS:
            return 0.0
        step = np.diff(luma, axis=1)
        up, down = (step >= 2) & (step <= 6), (step <= -2) & (step >= -6)
        slope = _runs(up) | _runs(down)
        if slope.mean() < self._LEAST_SLOPES:
            return 0.0
        ended = (luma <= 0) | (luma >= 255)
        begins = int((slope[:, 1:] & ~slope[:, :-1]).sum())
        return float((slope & (ended[:, _STEPS:] | ended[:, :-_STEPS])).sum()) / max(1, begins)


def _runs(steps: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where `_STEPS` of them follow one another."""
    width = steps.shape[1] - _STEPS + 1
    runs = [steps[:, first : first + width] for first in range(_STEPS)]
    return np.asarray(np.logical_and.reduce(runs), dtype=np.bool_)


def _ramp(value: float, worst: float, best: float) -> float:
    """0 at `worst`, 1 at `best`, linear between, clipped outside."""
    return float(np.clip((value - worst) / (best - worst), 0.0, 1.0))


SCORERS: Final[tuple[Scorer, ...]] = (DrawnPage(), Tones())
"""The scorers of a report, in the order in which their components are shown."""
WEIGHTS: Final = {name: weight for scorer in SCORERS for name, weight in scorer.weights.items()}
"""Exponent of each component in the technical score."""
FULL_RESOLUTION: Final = 3840 * 2160
"""Pixels from which the resolution score is 1 (a 4K screen)."""
RESOLUTION_SHARE: Final = 0.3
"""Exponent of the resolution in the overall score; the technical score has the rest."""


def assess(
    picture: Picture, scorers: Sequence[Scorer] = SCORERS, source: QualityReport | None = None
) -> QualityReport:
    """The quality report of a picture. Transparent parts are scored as they look on white paper.

    Args:
        picture: Any picture.
        scorers: What looks at it.
        source: The report of the page that the picture was made of: it shows the same, and is no JPEG any more.
    """
    resolution = min(1.0, picture.width * picture.height / FULL_RESOLUTION)
    views = list(views_of(picture))
    components: dict[str, float] = {}
    technical = 1.0
    for scorer in scorers:
        scores = scorer.scores(views)
        components |= {name: round(score, 4) for name, score in scores.items()}
        technical *= math.prod(score ** scorer.weights[name] for name, score in scores.items())
    overall = resolution**RESOLUTION_SHARE * technical ** (1 - RESOLUTION_SHARE)
    return QualityReport(
        resolution=round(resolution, 4),
        technical=round(technical, 4),
        components=components,
        content=content_of(picture) if source is None else source.content,
        jpeg_quality=estimated_quality(picture) if source is None else None,
        damage=picture.damage,
        overall=round(overall, 4),
    )
