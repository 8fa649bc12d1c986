"""Task: deliver master and variants."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from panelworks.engine import get_engine
from panelworks.records import IngestedPage, Outcome, PageRequest, PageResult
from tasks.policies import JITTER, RETRIES, RETRY_DELAYS, is_transient


@task(
    name="publish",
    task_run_name="publish",
    tags=["io"],
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def publish(request: PageRequest, page: IngestedPage, outcome: Outcome, cached: bool) -> PageResult:
    """Never cached: delivering twice is harmless, not delivering is not."""
    return get_engine().publish(request, page, outcome, cached=cached)
