"""Task: one candidate on one page of a comparison."""

from orchestration.device import gpu_slot
from orchestration.stage_tasks import retried_task
from panelworks.page import comparison
from panelworks.page.comparison import Candidate, Trial
from panelworks.page.engine import get_engine


@retried_task("try", timeout_seconds=3600, run_name="try {candidate.label}")
def try_candidate(source: str, candidate: Candidate, price_per_hour: float | None) -> Trial:
    """Enhance the page with the candidate's options and measure the result."""
    with gpu_slot():
        return comparison.try_candidate(source, candidate, get_engine(), price_per_hour)
