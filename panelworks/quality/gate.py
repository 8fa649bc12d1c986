"""The gate: is a page good as it is, or shall it be enhanced?"""

from typing import Final

from panelworks.frozen import Frozen
from panelworks.quality.report import QualityReport

_DEFECTS: Final = {
    "sharpness": "soft lines",
    "noise": "noise",
    "blockiness": "JPEG blocks",
    "banding": "banding",
    "contrast": "low contrast",
}


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
        weakest = report.weakest
        return GateDecision(
            good=False,
            reason=f"technical quality {report.technical:.2f} is below {technical_threshold:.2f};"
            f" weakest: {_DEFECTS.get(weakest, weakest)} ({report.components[weakest]:.2f})",
        )
    return GateDecision(
        good=True,
        reason=f"resolution {report.resolution:.2f} and technical quality {report.technical:.2f} are enough",
    )
