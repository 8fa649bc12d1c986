"""Task: run a plan over a page, with the share of finished tiles as a progress artifact."""

from prefect import task

from panelworks.engine import get_engine
from panelworks.records import Attempt, IngestedPage, Plan
from tasks.policies import JITTER, RETRIES, RETRY_DELAYS, by_content, is_transient
from tasks.progress import tile_progress


@task(
    name="enhance",
    task_run_name="enhance with {plan.model}",
    tags=["gpu"],
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    timeout_seconds=3600,
    cache_policy=by_content(
        "enhance", lambda arguments: [arguments["page"].content_key, arguments["plan"].model_dump()]
    ),
    result_serializer="json",
    cache_result_in_memory=False,
)
def enhance(page: IngestedPage, plan: Plan) -> Attempt:
    """The enhanced page, not yet judged."""
    return get_engine().enhance(page, plan, tile_progress(page))
