"""Task: judge an attempt."""

from panelworks.domain.result import Attempt, IngestedPage, Verdict
from panelworks.page.engine import get_engine
from panelworks.quality import QualityReport
from tasks.stage import stage


@stage(
    "validate",
    run_name="validate {attempt.plan.model}",
    timeout_seconds=300,
    identity=lambda given: [given["page"].content_key, given["attempt"].model_dump()],
)
def validate(page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
    """The verdict: is it still the page, only better?"""
    return get_engine().validate(page, before, attempt)
