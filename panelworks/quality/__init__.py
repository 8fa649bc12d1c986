"""Quality: scores of a picture, the gate that reads them, and the validation of an enhancement."""

from panelworks.quality.assess import assess
from panelworks.quality.gate import GateDecision, decide
from panelworks.quality.report import QualityReport
from panelworks.quality.scorers import SCORERS, Scorer

__all__ = ["SCORERS", "GateDecision", "QualityReport", "Scorer", "assess", "decide"]
