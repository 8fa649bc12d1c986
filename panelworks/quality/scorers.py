"""Scorers, which score the views of a page in [0, 1] with 1 the best, and the gate, which decides by their scores.

Paper, solid black and flat colour are art. If there is nothing to measure, the score is 1.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from panelworks.domain.fields import Frozen
from panelworks.domain.quality import Content, DeliveryScores, QualityReport
from panelworks.pictures.parallel import compute_in_background, compute_together
from panelworks.pictures.picture import Picture
from panelworks.pictures.view import Floats, View, sample_views
from panelworks.quality.content import classify_content, estimate_jpeg_quality
from panelworks.quality.measures import average_measures, load_head, measure_view

_SLOPE_STEPS: Final = 4
"""Number of steps of a soft slope."""


class Scorer(Protocol):
    """Computes one or several components of the technical score. Learned metrics implement this interface too."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Exponent of each component in the technical score."""
        ...

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        """The score of each component, in [0, 1]."""
        ...


class DrawnPageScorer:
    """Sharpness, noise, compression, banding and halftone, from measures that were fitted on drawn pages."""

    weights: Final = dict.fromkeys(("sharpness", "noise", "compression", "banding", "halftone"), 1.0)
    _MIN_RANGE_LEVELS: Final = 8.0
    """Minimum range of levels of a view with content."""
    _MIN_SIDE_PIXELS: Final = 24

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        drawn = [view for view in views if self._has_content(view)]
        if not drawn:
            return dict.fromkeys(self.weights, 1.0)
        measured = compute_together([partial(measure_view, view) for view in drawn])
        return load_head().scores(average_measures(measured))

    def _has_content(self, view: View) -> bool:
        return (
            min(view.luma.shape) >= self._MIN_SIDE_PIXELS
            and float(np.ptp(view.luma)) >= self._MIN_RANGE_LEVELS
        )


class ToneScorer:
    """Contrast, and slopes that are clipped at the end of the scale.

    Contrast is the range between the 1st and 99th percentile of brightness; 60 % of the scale is enough. Clipping is
    the share of soft slopes (four consecutive steps of 2 to 6 levels) that abruptly end in pure white or black: paper
    and solid ink are bordered by lines, a clipped sky by a slope.
    """

    weights: Final = {"contrast": 0.25, "clipping": 0.1}
    _FULL_CONTRAST_LEVELS: Final = 153.0
    _MAX_CLIPPED_SHARE: Final = 0.6
    _HARMLESS_CLIPPED_SHARE: Final = 0.2
    _MIN_SLOPE_SHARE: Final = 0.01
    _MIN_SCORE: Final = 0.2
    """Minimum score: neither fault makes a page worthless."""

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        ranges = [float(np.subtract(*np.percentile(view.luma[::2, ::2], [99, 1]))) for view in views]
        clipped = float(np.mean([self._measure_clipping(view.luma) for view in views]))
        return {
            "contrast": max(self._MIN_SCORE, _ramp(max(ranges), 0.0, self._FULL_CONTRAST_LEVELS)),
            "clipping": max(
                self._MIN_SCORE, _ramp(clipped, self._MAX_CLIPPED_SHARE, self._HARMLESS_CLIPPED_SHARE)
            ),
        }

    def _measure_clipping(self, luma: Floats) -> float:
        if luma.shape[1] <= _SLOPE_STEPS:
            return 0.0
        step = np.diff(luma, axis=1)
        up, down = (step >= 2) & (step <= 6), (step <= -2) & (step >= -6)
        slope = _consecutive_steps(up) | _consecutive_steps(down)
        if slope.mean() < self._MIN_SLOPE_SHARE:
            return 0.0
        ended = (luma <= 0) | (luma >= 255)
        begins = int((slope[:, 1:] & ~slope[:, :-1]).sum())
        return float((slope & (ended[:, _SLOPE_STEPS:] | ended[:, :-_SLOPE_STEPS])).sum()) / max(1, begins)


def _consecutive_steps(steps: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where `_SLOPE_STEPS` steps follow one another."""
    width = steps.shape[1] - _SLOPE_STEPS + 1
    runs = [steps[:, first : first + width] for first in range(_SLOPE_STEPS)]
    return np.asarray(np.logical_and.reduce(runs), dtype=np.bool_)


def _ramp(value: float, worst: float, best: float) -> float:
    """Map linearly to 0 at `worst` and 1 at `best`, clipped outside."""
    return float(np.clip((value - worst) / (best - worst), 0.0, 1.0))


SCORERS: Final[tuple[Scorer, ...]] = (DrawnPageScorer(), ToneScorer())
"""The scorers of a report, in the order of their components."""
COMPONENT_WEIGHTS: Final = {name: weight for scorer in SCORERS for name, weight in scorer.weights.items()}
"""Exponent of each component in the technical score."""
FULL_RESOLUTION_PIXELS: Final = 3840 * 2160
"""Pixels at which the resolution score reaches 1 (a 4K screen)."""
Size = tuple[int, int]
"""Width and height."""


def assess(picture: Picture, scorers: Sequence[Scorer] = SCORERS) -> QualityReport:
    """Assess a source at its own size, which is also taken as the size of its delivery until `score_delivery`.

    Transparent parts are scored as they look on white paper.
    """
    described = compute_in_background(partial(_describe, picture))
    components = _score(picture, picture.size, scorers)
    technical = _multiply(components, scorers)
    content, jpeg_quality = described.result()
    return QualityReport(
        resolution=_score_resolution(picture),
        technical=technical,
        components=components,
        content=content,
        jpeg_quality=jpeg_quality,
        damage=picture.damage,
        overall=technical,
        delivery=DeliveryScores(width=picture.width, height=picture.height, components=components),
    )


def score_delivery(
    report: QualityReport, picture: Picture, size: Size, scorers: Sequence[Scorer] = SCORERS
) -> QualityReport:
    """The report on a source with its overall score at the size of the delivery, `size`: there it is enlarged with bicubic
    interpolation, as a viewer does it."""
    if size == picture.size:
        return report
    components = _score(picture, size, scorers)
    delivery = DeliveryScores(width=size[0], height=size[1], components=components)
    return report.model_copy(update={"overall": _multiply(components, scorers), "delivery": delivery})


def assess_result(
    picture: Picture, source: QualityReport, scorers: Sequence[Scorer] = SCORERS
) -> QualityReport:
    """Assess a result at the size of its delivery, which the report on its source names.

    Its content is that of the source, and it is no longer a JPEG.
    """
    delivery = source.delivery
    size = picture.size if delivery is None else (delivery.width, delivery.height)
    components = _score(picture, size, scorers)
    technical = _multiply(components, scorers)
    return QualityReport(
        resolution=_score_resolution(picture),
        technical=technical,
        components=components,
        content=source.content,
        damage=picture.damage,
        overall=technical,
        delivery=DeliveryScores(width=size[0], height=size[1], components=components),
    )


def _score_resolution(picture: Picture) -> float:
    return round(min(1.0, picture.width * picture.height / FULL_RESOLUTION_PIXELS), 4)


def _score(picture: Picture, size: Size, scorers: Sequence[Scorer]) -> dict[str, float]:
    """The components of a picture as it looks at a size."""
    views = list(sample_views(picture, size))
    components: dict[str, float] = {}
    for scorer in scorers:
        components |= {name: round(score, 4) for name, score in scorer.scores(views).items()}
    return components


def _multiply(components: Mapping[str, float], scorers: Sequence[Scorer]) -> float:
    """The technical score: the product of the components to the power of their weights."""
    weights = {name: weight for scorer in scorers for name, weight in scorer.weights.items()}
    product = math.prod(float(score ** weights[name]) for name, score in components.items())
    return round(product, 4)


def _describe(picture: Picture) -> tuple[Content, int | None]:
    """The content of a picture and the quality of the JPEG that it was, if any."""
    return classify_content(picture), estimate_jpeg_quality(picture)


_DEFECT_NAMES: Final = {
    "sharpness": "soft lines",
    "noise": "noise",
    "compression": "JPEG artifacts",
    "banding": "banding",
    "halftone": "print halftone",
    "contrast": "low contrast",
    "clipping": "clipped tones",
}
_SEVERITIES: Final = ((0.6, "strong"), (0.8, "clear"), (0.93, "slight"))
"""Upper limits of the score for the severity of a defect."""


class GateDecision(Frozen):
    """The gate's decision and its reason for operators."""

    good: bool
    reason: str


def decide(report: QualityReport, quality_threshold: float, technical_threshold: float) -> GateDecision:
    """Decide whether a page is good: resolution and technical score must both reach their thresholds."""
    if report.resolution < quality_threshold:
        return GateDecision(
            good=False,
            reason=f"resolution {report.resolution:.2f} is below {quality_threshold:.2f}",
        )
    if report.technical < technical_threshold:
        return GateDecision(
            good=False,
            reason=f"technical quality {report.technical:.2f} is below {technical_threshold:.2f};"
            f" {describe_weakest_component(report)}",
        )
    return GateDecision(
        good=True,
        reason=f"resolution {report.resolution:.2f} and technical quality {report.technical:.2f} are enough",
    )


def describe_weakest_component(report: QualityReport) -> str:
    """Describe the component with the lowest weighted score, such as `JPEG artifacts: strong (0.31)`."""
    weakest = min(
        report.components, key=lambda name: report.components[name] ** COMPONENT_WEIGHTS.get(name, 0.0)
    )
    score = report.components[weakest]
    strength = next((word for below, word in _SEVERITIES if score < below), "hardly any")
    return f"{_DEFECT_NAMES.get(weakest, weakest)}: {strength} ({score:.2f})"
