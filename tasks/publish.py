"""Task: deliver master and variants."""

from panelworks.domain.request import PageRequest
from panelworks.domain.result import IngestedPage, Outcome, PageResult
from panelworks.page.engine import get_engine
from tasks.stage import stage


@stage("publish", timeout_seconds=600)
def publish(request: PageRequest, page: IngestedPage, outcome: Outcome, cached: bool) -> PageResult:
    """Never cached: delivering twice is harmless, not delivering is not."""
    return get_engine().publish(request, page, outcome, cached=cached)
