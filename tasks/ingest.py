"""Task: fetch a page, check it, keep it, plan its enhancement."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from panelworks.engine import get_engine
from panelworks.records import IngestedPage, PageRequest
from tasks.policies import JITTER, RETRIES, RETRY_DELAYS, is_transient


@task(
    name="ingest",
    task_run_name="ingest",
    tags=["io"],
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def ingest(request: PageRequest) -> IngestedPage:
    """Never cached: what an address holds may change."""
    return get_engine().ingest(request)
