"""Task: write the result and the ledger's row."""

from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.page.engine import get_engine
from tasks.stage import stage


@stage("record", timeout_seconds=120)
def record(request: PageRequest, result: PageResult) -> None:
    """The last stage: after it, the page is done."""
    get_engine().record(request, result)
