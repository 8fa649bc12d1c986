"""The fallback of a page whose enhancement failed validation."""

from prefect import flow

from orchestration.artifacts import show_fallback
from orchestration.page_stages import PrefectAttempts
from panelworks.domain.quality import QualityReport
from panelworks.domain.result import FallbackResult, IngestedPage, Verdict
from panelworks.page import pipeline
from tasks import PAGE_TASKS


@flow(
    name="fall-back",
    flow_run_name="fall back: {page.stem}",
    description="Other ways to enhance a page, tried in order; the best result is kept.",
    persist_result=True,
    result_serializer="json",
    validate_parameters=False,
)
async def fall_back(
    page: IngestedPage, before: QualityReport, failed: Verdict, refresh: bool
) -> FallbackResult:
    """Try the alternatives to the plan of a page.

    Args:
        page: The page, as it was ingested.
        before: Its quality report.
        failed: The verdict on the plan.
        refresh: Whether to recompute results that Prefect has cached.
    """
    attempts = PrefectAttempts(PAGE_TASKS, refresh=refresh)
    result = await pipeline.fall_back(page, before, failed, attempts)
    await show_fallback(attempts.judged)
    return result
