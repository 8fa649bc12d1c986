"""One comic page, from its source to delivered variants."""

from typing import Annotated, Any

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from pydantic import Field

from flows.conductor import PrefectStages
from flows.showcase import show
from panelworks import story
from panelworks.direct import new_job_id, record_failure
from panelworks.engine import get_engine
from panelworks.errors import ObjectMissing, PanelworksError
from panelworks.records import EnhanceOptions, PageRequest, PageResult
from panelworks.settings import get_settings
from panelworks.sources.fetch import short_name


def name_run() -> str:
    """The name of a run in the UI: the page and the preset."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    return f"{short_name(str(parameters['source']))} for {_preset(parameters.get('options'))}"


def _preset(options: Any) -> str:
    given = options.preset if isinstance(options, EnhanceOptions) else (options or {}).get("preset")
    return str(given or EnhanceOptions().preset)


def record_crash(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Write a crashed page into the ledger, so that no page is lost in silence."""
    given = flow_run.parameters
    request = _request(
        str(given.get("source")),
        given.get("out"),
        EnhanceOptions(),
        force=False,
        job_id=str(given.get("job_id") or flow_run.id),
        tool=str(given.get("tool", "prefect")),
    )
    crash = PanelworksError("crashed", f"The run crashed: {state.message or 'no reason was given'}")
    record_failure(request, story.failed(request, crash), get_engine())


@flow(
    name="enhance-page",
    flow_run_name=name_run,
    description="Assess a page, enhance it where that helps, validate, cut variants, deliver, record.",
    result_serializer="json",
    on_crashed=[record_crash],
)
async def enhance_page(
    source: str,
    out: str | None = None,
    options: EnhanceOptions = EnhanceOptions(),  # noqa: B008 - frozen, and the UI's form shows it
    force: bool = False,
    job_id: str | None = None,
    tool: Annotated[str, Field(description="Who asked, for logs and the ledger.")] = "prefect",
) -> PageResult:
    """Bring one page to its delivered variants.

    Args:
        source: Path, https://, s3:// or data: address of the page.
        out: Folder or s3://bucket/prefix to deliver to; empty takes PANELWORKS_OUT or S3_BUCKET.
        options: What to do with the page.
        force: Compute again even when the result is known.
        job_id: Identity of the job; empty takes the id of the flow run.
        tool: Who asked, for logs and the ledger.
    """
    run_id = runtime.flow_run.id
    request = _request(source, out, options, force, job_id or run_id or new_job_id(), tool)
    try:
        result = await _tell(request)
    except Exception as error:
        record_failure(request, story.failed(request, error), get_engine())
        raise
    await show(request, result)
    return result


async def _tell(request: PageRequest) -> PageResult:
    """The story; once more from the start when the store lost what Prefect remembers."""
    try:
        return await story.enhance_page(request, PrefectStages(refresh=request.force))
    except ObjectMissing as missing:
        get_run_logger().warning("%s Computing every stage anew.", missing)
    return await story.enhance_page(request, PrefectStages(refresh=True))


def _request(
    source: str, out: str | None, options: EnhanceOptions, force: bool, job_id: str, tool: str
) -> PageRequest:
    return PageRequest(
        source=source,
        out=out or get_settings().default_out,
        options=options,
        job_id=job_id,
        tool=tool,
        force=force,
    )
