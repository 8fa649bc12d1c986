"""Task: judge an attempt."""

from prefect import task

from panelworks.engine import get_engine
from panelworks.quality import QualityReport
from panelworks.records import Attempt, IngestedPage, Verdict
from tasks.policies import JITTER, RETRIES, RETRY_DELAYS, by_content, is_transient


@task(
    name="validate",
    task_run_name="validate {attempt.plan.model}",
    tags=["cpu"],
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS,
    retry_jitter_factor=JITTER,
    retry_condition_fn=is_transient,
    timeout_seconds=300,
    cache_policy=by_content(
        "validate", lambda arguments: [arguments["page"].content_key, arguments["attempt"].model_dump()]
    ),
    result_serializer="json",
    cache_result_in_memory=False,
)
def validate(page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
    """The verdict: is it still the page, only better?"""
    return get_engine().validate(page, before, attempt)
