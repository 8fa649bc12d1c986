"""Task: one candidate on one page of a comparison."""

from panelworks.page import comparison
from panelworks.page.comparison import Candidate, Trial
from panelworks.page.engine import get_engine
from tasks.gpu_slot import gpu_slot
from tasks.stage import stage


@stage("try", timeout_seconds=3600, run_name="try {candidate.label}")
def try_candidate(source: str, candidate: Candidate, price_per_hour: float | None) -> Trial:
    """Enhance the page in the candidate's way, and measure it."""
    with gpu_slot():
        return comparison.try_candidate(source, candidate, get_engine(), price_per_hour)
