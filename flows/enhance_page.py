"""One comic page, from its source to delivered variants."""

from typing import Annotated, cast

from prefect import flow, get_run_logger, runtime
from pydantic import Field

from blocks import EnhancementProfile
from flows.fall_back import fall_back
from orchestration.artifacts import Judged, show_page
from orchestration.events import emit_page_end, reporting
from orchestration.page_runs import read_request, record_crash, state_before_processing
from orchestration.page_stages import PrefectStages
from orchestration.s3_blocks import begin_run
from orchestration.traces import trace_page
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import ObjectMissing
from panelworks.page import pipeline
from panelworks.page.direct import new_job_id, record_failure
from panelworks.page.engine import get_engine
from panelworks.sources.fetch import short_name
from tasks import PAGE_TASKS
from tasks.notify import notify


def name_run() -> str:
    """The name of a run in the UI: the page and the preset."""
    request, _ = read_request(runtime.flow_run.parameters, "")
    return f"{short_name(request.source)} for {request.options.preset}"


@flow(
    name="enhance-page",
    flow_run_name=name_run,
    description="Assess a page, enhance it where that helps, validate, cut variants, deliver, record.",
    result_serializer="json",
    on_crashed=[record_crash],
)
async def enhance_page(
    source: Annotated[str, Field(min_length=1)],
    out: str | None = None,
    options: EnhanceOptions = EnhanceOptions(),  # noqa: B008 - frozen, and the UI's form shows it
    force: bool = False,
    job_id: str | None = None,
    origin: Origin = Origin(),  # noqa: B008 - frozen, and the UI's form shows it
    profile: str | None = None,
    event: str | None = None,
) -> PageResult:
    """Process one page and deliver its variants.

    Args:
        source: Path, https://, s3:// or data: address of the page.
        out: Folder or s3://bucket/prefix to deliver to; empty takes PANELWORKS_OUT or S3_BUCKET.
        options: What to do with the page.
        force: Compute again even when the result is known.
        job_id: Identity of the job; empty takes the id of the flow run.
        origin: Who requested the page, and who receives the result.
        profile: Name of an Enhancement Profile block; parameters of the run have precedence.
        event: JSON text of the event that started the run; `options` set here have precedence over its own.
    """
    block = None
    if profile:
        options, out, block = await EnhancementProfile.merge_into(profile, options, out)
    out = begin_run(out, block)
    run_id = runtime.flow_run.id
    request, refusal = read_request(
        {
            "source": source,
            "out": out,
            "options": options,
            "force": force,
            "job_id": job_id,
            "origin": origin,
            "event": event,
        },
        str(run_id or new_job_id()),
    )
    with trace_page(request) as span:
        if request.origin.entry_point != "operator" and run_id:
            final = await state_before_processing(request, str(run_id))
            if final is not None:
                return cast(PageResult, final)  # Prefect makes a returned state the state of the run
        try:
            if refusal is not None:
                raise refusal
            with reporting(request):
                result, judged = await _process(request)
        except Exception as error:
            failure = pipeline.failed(request, error)
            span.set(**failure.trace_attributes)
            record_failure(request, failure, get_engine())
            _report_end(request, failure)
            raise
        span.set(**result.trace_attributes)
        _report_end(request, result)
        await show_page(request, result, judged)
        return result


async def _process(request: PageRequest) -> tuple[PageResult, list[Judged]]:
    """Run the pipeline; once more with `refresh` if the store has lost what Prefect has cached."""
    stages = PrefectStages(PAGE_TASKS, fall_back, refresh=request.force)
    try:
        return await pipeline.enhance_page(request, stages), stages.judged
    except ObjectMissing as missing:
        get_run_logger().warning("every stage is computed again: %s", missing)
    stages = PrefectStages(PAGE_TASKS, fall_back, refresh=True)
    return await pipeline.enhance_page(request, stages), stages.judged


def _report_end(request: PageRequest, result: PageResult) -> None:
    """Record the callback, then emit the end: who receives the event finds the callback."""
    callback_id = None
    if request.origin.callback is not None:
        run_id = runtime.flow_run.root_flow_run_id or runtime.flow_run.id
        try:
            callback_id = notify(request, result, str(run_id))
        except Exception as error:  # noqa: BLE001 - the page has ended and stays delivered
            get_run_logger().error("callback of job %s was not recorded: %s", request.job_id, error)
    emit_page_end(request, result, callback_id=callback_id, cache_outages=get_engine().take_outages())
