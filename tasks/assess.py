"""Task: score a page."""

from orchestration.stage_tasks import stage_task
from panelworks.domain.quality import QualityReport
from panelworks.domain.result import IngestedPage
from panelworks.page.engine import get_engine


@stage_task("assess")
def assess(page: IngestedPage) -> QualityReport:
    """The quality report of the original."""
    return get_engine().assess(page)
