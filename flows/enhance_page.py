"""One comic page, from its source to delivered variants."""

from typing import Annotated, Any, cast

from prefect import flow, get_run_logger, runtime
from pydantic import Field

from blocks import EnhancementProfile
from flows.conductor import PrefectStages
from flows.crashes import record_crash
from flows.duplicates import state_before_processing
from flows.showcase import show
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest, read_generated_panel
from panelworks.domain.result import PageResult
from panelworks.errors import Misconfigured, ObjectMissing, Rejected
from panelworks.page import pipeline
from panelworks.page.direct import new_job_id, record_failure
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from panelworks.sources.fetch import short_name
from tasks.announce import announce_end, announcing
from tasks.notify import notify


def name_run() -> str:
    """The name of a run in the UI: the page and the preset."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    return f"{short_name(str(parameters['source']))} for {_preset(parameters)}"


def _preset(parameters: dict[str, Any]) -> str:
    options, event = parameters.get("options"), parameters.get("event")
    given = options.preset if isinstance(options, EnhanceOptions) else (options or {}).get("preset")
    default = EnhanceOptions().preset
    if event and given in (None, default):
        try:
            return read_generated_panel(event).options.preset
        except Rejected:
            return default
    return str(given or default)


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
    """Bring one page to its delivered variants.

    Args:
        source: Path, https://, s3:// or data: address of the page.
        out: Folder or s3://bucket/prefix to deliver to; empty takes PANELWORKS_OUT or S3_BUCKET.
        options: What to do with the page.
        force: Compute again even when the result is known.
        job_id: Identity of the job; empty takes the id of the flow run.
        origin: Who asked for the page, and whom to tell.
        profile: Name of an Enhancement Profile block; what the run names itself goes before.
        event: JSON text of the event that started the run; `options` set here have precedence over its own.
    """
    if profile:
        chosen = await profile_named(profile)
        options, out = chosen.merged(options), out or chosen.out
    refusal: Rejected | None = None
    if event is not None:
        try:
            panel = read_generated_panel(event)
            options, force, origin = panel.merged(options), force or panel.force, panel.origin
        except Rejected as error:
            refusal, origin = error, Origin(tool="event", door="event")
    run_id = runtime.flow_run.id
    request = PageRequest(
        source=source,
        out=out or get_settings().default_out,
        options=options,
        job_id=job_id or run_id or new_job_id(),
        origin=origin,
        force=force,
    )
    if request.origin.door != "operator" and run_id:
        final = await state_before_processing(request, str(run_id))
        if final is not None:
            return cast(PageResult, final)  # Prefect makes a returned state the state of the run
    try:
        if refusal is not None:
            raise refusal
        with announcing(request):
            result = await _tell(request)
    except Exception as error:
        failure = pipeline.failed(request, error)
        record_failure(request, failure, get_engine())
        _report(request, failure)
        raise
    _report(request, result)
    await show(request, result)
    return result


def _report(request: PageRequest, result: PageResult) -> None:
    """Record the callback, then announce how the page ended, so that a gateway that hears of it finds the callback."""
    callback_id = None
    if request.origin.callback is not None:
        run_id = runtime.flow_run.root_flow_run_id or runtime.flow_run.id
        try:
            callback_id = notify(request, result, str(run_id))
        except Exception as error:  # noqa: BLE001 - the page has ended, whatever becomes of its callback
            get_run_logger().error("The callback of job %s is not recorded: %s", request.job_id, error)
    announce_end(request, result, callback_id=callback_id, cache_outages=get_engine().take_outages())


async def profile_named(name: str) -> EnhancementProfile:
    """The profile that is stored under a name.

    Raises:
        Misconfigured: `unknown_profile`.
    """
    try:
        return await EnhancementProfile.aload(name)
    except ValueError as error:
        raise Misconfigured(
            "unknown_profile", f"There is no Enhancement Profile block named '{name}'."
        ) from error


async def _tell(request: PageRequest) -> PageResult:
    """The story; once more from the start when the store lost what Prefect remembers."""
    try:
        return await pipeline.enhance_page(request, PrefectStages(refresh=request.force))
    except ObjectMissing as missing:
        get_run_logger().warning("%s Computing every stage anew.", missing)
    return await pipeline.enhance_page(request, PrefectStages(refresh=True))
