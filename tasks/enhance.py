"""Task: run a plan on a page; the share of finished tiles is an artifact and events."""

from orchestration.artifacts import tile_progress
from orchestration.device import gpu_slot
from orchestration.events import report_stage
from orchestration.stage_tasks import stage_task
from panelworks.domain.plan import Plan
from panelworks.domain.result import Attempt, IngestedPage
from panelworks.page.engine import get_engine
from panelworks.progress import both_progress


@stage_task("enhance")
def enhance(page: IngestedPage, plan: Plan) -> Attempt:
    """The enhanced page, not validated."""
    with report_stage("enhance") as report, gpu_slot():
        return get_engine().enhance(page, plan, both_progress(report, tile_progress(page)))
