"""Task: run a plan over a page, with the share of finished tiles as a progress artifact."""

from panelworks.engine import get_engine
from panelworks.records import Attempt, IngestedPage, Plan
from tasks.progress import tile_progress
from tasks.stage import stage


@stage(
    "enhance",
    run_name="enhance with {plan.model}",
    tag="gpu",
    timeout_seconds=3600,
    identity=lambda given: [given["page"].content_key, given["plan"].model_dump()],
)
def enhance(page: IngestedPage, plan: Plan) -> Attempt:
    """The enhanced page, not yet judged."""
    return get_engine().enhance(page, plan, tile_progress(page))
