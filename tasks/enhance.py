"""Task: run a plan over a page, with the share of finished tiles as an artifact and as events."""

from panelworks.domain.plan import Plan
from panelworks.domain.result import Attempt, IngestedPage
from panelworks.page.engine import get_engine
from tasks.announce import announced
from tasks.gpu_slot import gpu_slot
from tasks.progress import both, tile_progress
from tasks.stage import stage


@stage(
    "enhance",
    run_name="enhance with {plan.model}",
    timeout_seconds=3600,
    identity=lambda given: [given["page"].content_key, given["plan"].model_dump()],
)
def enhance(page: IngestedPage, plan: Plan) -> Attempt:
    """The enhanced page, not yet judged."""
    with gpu_slot(), announced("enhance") as told:
        return get_engine().enhance(page, plan, both(told, tile_progress(page)))
