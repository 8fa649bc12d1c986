"""A page once more, with other settings: named by its job or by its content key."""

from prefect import flow, runtime

from flows.enhance_page import enhance_page
from orchestration.page_runs import record_crash
from orchestration.s3_blocks import begin_run
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin
from panelworks.domain.result import PageResult
from panelworks.page.engine import get_engine


@flow(
    name="reenhance",
    flow_run_name="again: {of}",
    description="Process a page again with other settings, by its job id or content key.",
    result_serializer="json",
    on_crashed=[record_crash],
)
async def reenhance(
    of: str,
    options: EnhanceOptions = EnhanceOptions(),  # noqa: B008 - frozen, and the UI's form shows it
    out: str | None = None,
    force: bool = False,
    origin: Origin = Origin(),  # noqa: B008 - as above
    owner: str | None = None,
) -> PageResult:
    """Process a page again that was processed before.

    Args:
        of: Job id or content key of the page.
        options: What to do with it this time.
        out: Folder or s3://bucket/prefix to deliver to; empty takes where it was delivered before.
        force: Compute again even when the result is known.
        origin: Who requested the page, and who receives the result.
        owner: API key that the job `of` belongs to; empty for jobs of operators and events.
    """
    begin_run(out)
    source, place = get_engine().jobs.original_of(of, out, owner)
    return await enhance_page(source, place, options, force, runtime.flow_run.id, origin)
