"""Task: record the callback of a job that has ended."""

from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.page.engine import get_engine
from tasks.stage import stage


@stage("notify", timeout_seconds=120)
def notify(request: PageRequest, result: PageResult, run_id: str) -> str | None:
    """Store the callback; a gateway sends it. Gives its id, None when the job has no callback."""
    return get_engine().callbacks.record(request, result, run_id)
