"""Task: fetch a page, check it, keep it, plan its enhancement."""

from panelworks.domain.request import PageRequest
from panelworks.domain.result import IngestedPage
from panelworks.page.engine import get_engine
from tasks.stage import stage


@stage("ingest", timeout_seconds=600)
def ingest(request: PageRequest) -> IngestedPage:
    """Never cached: what an address holds may change."""
    return get_engine().ingest(request)
