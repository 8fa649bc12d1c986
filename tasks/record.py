"""Task: write the result and the ledger's row."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from panelworks.engine import get_engine
from panelworks.records import PageRequest, PageResult
from tasks.policies import JITTER, RETRIES, RETRY_DELAYS, is_transient


@task(
    name="record",
    task_run_name="record",
    tags=["io"],
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    timeout_seconds=120,
    cache_policy=NO_CACHE,
)
def record(request: PageRequest, result: PageResult) -> None:
    """The last stage: after it, the page is done."""
    get_engine().record(request, result)
