"""Pages whose run crashed: recorded each time, announced once nobody will try again."""

import logging
from typing import Any, Final

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest, read_generated_panel
from panelworks.domain.result import PageResult
from panelworks.errors import PanelworksError, Rejected
from panelworks.page import pipeline
from panelworks.page.direct import record_failure
from panelworks.page.engine import Engine, get_engine
from panelworks.settings import get_settings
from tasks.announce import announce_end

logger = logging.getLogger(__name__)

GAVE_UP: Final = "crashed_for_good"
"""The error code of a page that is not tried again."""


def record_crash(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook: write a crashed page into the ledger, so that no page is lost in silence.

    The row is the job's: a later run that succeeds replaces it.
    """
    request = request_of(flow_run)
    crash = PanelworksError("crashed", f"The run crashed: {state.message or 'no reason was given'}")
    record_failure(request, pipeline.failed(request, crash), get_engine())


def give_up(flow_run: FlowRun, crashes: int, engine: Engine) -> bool:
    """End a page that crashed too often: record its callback and failure, announce it. False when that was done before."""
    request = request_of(flow_run)
    known = engine.jobs.job(request.key)
    if known is not None and (known.result.error is None or known.result.error.code == GAVE_UP):
        return False
    reason = flow_run.state.message if flow_run.state else None
    told = f"The run crashed {crashes} times and is not tried again: {reason or 'no reason was given'}"
    result = pipeline.failed(request, PanelworksError(GAVE_UP, told))
    callback_id = _record_callback(request, result, flow_run, engine)
    record_failure(request, result, engine)
    announce_end(request, result, callback_id=callback_id, flow_run_id=str(flow_run.id))
    return True


def _record_callback(
    request: PageRequest, result: PageResult, flow_run: FlowRun, engine: Engine
) -> str | None:
    """Before the failure is recorded: a gateway that is killed in between does both again, and the callback once."""
    try:
        return engine.callbacks.record(request, result, str(flow_run.id))
    except PanelworksError as error:
        logger.error("callback of job %s is not recorded: %s", request.job_id, error)
        return None


def request_of(flow_run: FlowRun) -> PageRequest:
    """What a run of a page was asked for; a run of `reenhance` for the stored original and the place of that job."""
    given = flow_run.parameters
    source, out = given.get("source"), given.get("out")
    if source is None and given.get("of") is not None:
        source, out = _original_of(str(given["of"]), out, given.get("owner"))
    options = EnhanceOptions.model_validate(given.get("options") or {})
    origin = Origin.model_validate(given.get("origin") or {})
    force = bool(given.get("force"))
    if given.get("event"):
        try:
            panel = read_generated_panel(given["event"])
            options, origin, force = panel.merged(options), panel.origin, force or panel.force
        except Rejected:
            origin = Origin(tool="event", door="event")
    return PageRequest(
        source=str(source),
        out=out or get_settings().default_out,
        options=options,
        job_id=str(given.get("job_id") or flow_run.id),
        origin=origin,
        force=force,
    )


def _original_of(of: str, out: str | None, owner: str | None) -> tuple[str, str | None]:
    """What `reenhance` would have processed; where no such job is known, what it was given."""
    from flows.reenhance import original_of

    try:
        source, place = original_of(of, out, owner)
    except PanelworksError as error:
        logger.warning("the original of %s is not known: %s", of, error)
        return of, out
    return source, out or place
