"""A page once more, with other settings: named by its job or by its content key."""

import re
from typing import Final

from prefect import flow, runtime

from flows.crashes import record_crash
from flows.enhance_page import enhance_page
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, Origin
from panelworks.domain.result import PageResult
from panelworks.errors import Rejected
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from panelworks.sources.stored import stored_original

_CONTENT_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


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
    """Bring a page that was processed before to new variants.

    Args:
        of: Job id or content key of the page.
        options: What to do with it this time.
        out: Folder or s3://bucket/prefix to deliver to; empty takes where it was delivered before.
        force: Compute again even when the result is known.
        origin: Who asked for the page, and whom to tell.
        owner: API key that the job `of` belongs to; empty for jobs of operators and events.
    """
    source, before = original_of(of, out, owner)
    return await enhance_page(source, out or before, options, force, runtime.flow_run.id, origin)


def original_of(of: str, out: str | None, owner: str | None = None) -> tuple[str, str]:
    """The stored original of a job or content key, and where it was delivered to.

    Raises:
        Rejected: `unknown_job`, or the job had failed before its page was read.
    """
    engine = get_engine()
    place = out or get_settings().default_out
    job = None if _CONTENT_KEY.fullmatch(of) else engine.jobs.job(JobKey(owner, of))
    result = job.result if job else engine.jobs.result_of(of, place)
    if result is None:
        raise Rejected("unknown_job", f"Neither a finished job nor a content key: {of[:80]}.")
    if result.source is None:
        raise Rejected("unknown_job", "That job ended before its page could be read.")
    return stored_original(result.source), job.request.out if job else place
