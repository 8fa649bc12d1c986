"""Task: score a page."""

from panelworks.domain.result import IngestedPage
from panelworks.page.engine import get_engine
from panelworks.quality import QualityReport
from tasks.stage import stage


@stage("assess", timeout_seconds=300, identity=lambda given: given["page"].original.sha256)
def assess(page: IngestedPage) -> QualityReport:
    """The quality report of the original."""
    return get_engine().assess(page.original)
