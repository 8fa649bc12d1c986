"""Task: validate an attempt."""

from orchestration.stage_tasks import stage_task
from panelworks.domain.quality import QualityReport
from panelworks.domain.result import Attempt, IngestedPage, Verdict
from panelworks.page.engine import get_engine


@stage_task("validate")
def validate(page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
    """The verdict: does the attempt show the same page, with better quality?"""
    return get_engine().validate(page, before, attempt)
