"""Task: deliver master and variants."""

from orchestration.stage_tasks import stage_task
from panelworks.domain.request import PageRequest
from panelworks.domain.result import IngestedPage, Outcome, PageResult
from panelworks.page.engine import get_engine


@stage_task("publish")
def publish(request: PageRequest, page: IngestedPage, outcome: Outcome, cached: bool) -> PageResult:
    """The result with the addresses of what was delivered. A second delivery writes the same objects."""
    return get_engine().publish(request, page, outcome, cached=cached)
