"""Task: write the result and the ledger's row."""

from orchestration.stage_tasks import stage_task
from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.page.engine import get_engine


@stage_task("record")
def record(request: PageRequest, result: PageResult) -> None:
    """The last stage: the job is finished."""
    get_engine().record(request, result)
