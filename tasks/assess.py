"""Task: score a page."""

from prefect import task

from panelworks.engine import get_engine
from panelworks.quality import QualityReport
from panelworks.records import IngestedPage
from tasks.policies import JITTER, RETRIES, RETRY_DELAYS, by_content, is_transient


@task(
    name="assess",
    task_run_name="assess",
    tags=["cpu"],
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    timeout_seconds=300,
    cache_policy=by_content("assess", lambda arguments: arguments["page"].original.sha256),
    result_serializer="json",
    cache_result_in_memory=False,
)
def assess(page: IngestedPage) -> QualityReport:
    """The quality report of the original."""
    return get_engine().assess(page.original)
