"""Quality: scores of a picture, the gate that reads them, and the validation of an enhancement."""

from panelworks.domain.quality import QualityReport
from panelworks.quality.gate import GateDecision, decide
from panelworks.quality.scorers import SCORERS, Scorer, assess

__all__ = ["SCORERS", "GateDecision", "QualityReport", "Scorer", "assess", "decide"]
