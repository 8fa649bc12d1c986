"""Task: record the callback of a job that has ended."""

from orchestration.stage_tasks import retried_task
from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.page.engine import get_engine


@retried_task("notify", timeout_seconds=120)
def notify(request: PageRequest, result: PageResult, run_id: str) -> str | None:
    """Store the callback for delivery by the supervisor; returns its id, None if the job has no callback."""
    return get_engine().callbacks.record(request, result, run_id)
