"""Task: fetch, check and store a page, and plan its enhancement."""

from orchestration.stage_tasks import stage_task
from panelworks.domain.request import PageRequest
from panelworks.domain.result import IngestedPage
from panelworks.page.engine import get_engine


@stage_task("ingest")
def ingest(request: PageRequest) -> IngestedPage:
    """The page as the following stages receive it."""
    return get_engine().ingest(request)
