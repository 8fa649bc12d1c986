"""The gate: is a page good as it is, or shall it be enhanced?"""

from typing import Final

from panelworks.domain.fields import Frozen
from panelworks.domain.quality import QualityReport
from panelworks.quality.scorers import WEIGHTS

_DEFECTS: Final = {
    "sharpness": "soft lines",
    "noise": "noise",
    "compression": "JPEG artifacts",
    "banding": "banding",
    "halftone": "print halftone",
    "contrast": "low contrast",
    "clipping": "clipped tones",
}
_STRENGTHS: Final = ((0.6, "strong"), (0.8, "clear"), (0.93, "slight"))
"""Scores below which a defect is called so."""


class GateDecision(Frozen):
    """The gate's answer and, in an operator's words, what decided."""

    good: bool
    reason: str


def decide(report: QualityReport, quality_threshold: float, technical_threshold: float) -> GateDecision:
    """Good needs both a resolution and a technical score of at least their thresholds."""
    if report.resolution < quality_threshold:
        return GateDecision(
            good=False,
            reason=f"resolution {report.resolution:.2f} is below {quality_threshold:.2f}",
        )
    if report.technical < technical_threshold:
        return GateDecision(
            good=False,
            reason=f"technical quality {report.technical:.2f} is below {technical_threshold:.2f};"
            f" {described(report)}",
        )
    return GateDecision(
        good=True,
        reason=f"resolution {report.resolution:.2f} and technical quality {report.technical:.2f} are enough",
    )


def described(report: QualityReport) -> str:
    """The component that decided, in an operator's words, such as `JPEG artifacts: strong (0.31)`."""
    weakest = min(report.components, key=lambda name: report.components[name] ** WEIGHTS.get(name, 0.0))
    score = report.components[weakest]
    strength = next((word for below, word in _STRENGTHS if score < below), "hardly any")
    return f"{_DEFECTS.get(weakest, weakest)}: {strength} ({score:.2f})"
