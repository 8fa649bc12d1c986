"""Quality: scores of a picture, the gate that decides by them, and the validation of an enhancement."""

from panelworks.domain.quality import QualityReport
from panelworks.quality.scorers import (
    SCORERS,
    GateDecision,
    Scorer,
    assess,
    assess_result,
    decide,
    score_delivery,
)

__all__ = [
    "SCORERS",
    "GateDecision",
    "QualityReport",
    "Scorer",
    "assess",
    "assess_result",
    "decide",
    "score_delivery",
]
