"""Task: deliver master and variants."""

from panelworks.engine import get_engine
from panelworks.records import IngestedPage, Outcome, PageRequest, PageResult
from tasks.stage import stage


@stage("publish", timeout_seconds=600)
def publish(request: PageRequest, page: IngestedPage, outcome: Outcome, cached: bool) -> PageResult:
    """Never cached: delivering twice is harmless, not delivering is not."""
    return get_engine().publish(request, page, outcome, cached=cached)
