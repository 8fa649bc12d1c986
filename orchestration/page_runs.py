"""Runs of pages: what a run requests, and runs that crashed, were cancelled, or repeat a job."""

import logging
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.states import Cancelled, Completed

from orchestration.events import emit_page_end
from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import PanelworksError, Rejected
from panelworks.page import pipeline
from panelworks.page.direct import record_failure
from panelworks.page.engine import Engine, get_engine
from panelworks.settings import get_settings

logger = logging.getLogger(__name__)

CRASHED_FOR_GOOD: Final = "crashed_for_good"
"""Error code of a page whose run is not restarted."""
DUPLICATE: Final = "Duplicate"
"""Name of the final state of a run that repeats a job."""


def read_request(parameters: Mapping[str, Any], run_id: str) -> tuple[PageRequest, Rejected | None]:
    """Read what a run requests; a run of `reenhance` requests the stored original of a job.

    Returns:
        The request, and why its event cannot be used. The request then has only what does not come from the event.
    """
    given = dict(parameters)
    if given.get("source") is None and given.get("of") is not None:
        given["source"], given["out"] = _original_of(str(given["of"]), given.get("out"), given.get("owner"))
    out = get_settings().default_out
    try:
        return PageRequest.from_parameters(given, job_id=run_id, out=out), None
    except Rejected as refusal:
        given |= {"event": None, "origin": Origin(tool="event", entry_point="event")}
        return PageRequest.from_parameters(given, job_id=run_id, out=out), refusal


def _original_of(of: str, out: str | None, owner: str | None) -> tuple[str, str | None]:
    """The stored original of a job and its place; the given names if the job is unknown."""
    try:
        source, place = get_engine().jobs.original_of(of, out, owner)
    except PanelworksError as error:
        logger.warning("the original of %s is unknown: %s", of, error)
        return of, out
    return source, out or place


def record_crash(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """State hook: write the failure of a crashed page into the ledger.

    The row belongs to the job: a later run that succeeds replaces it.
    """
    request, _ = read_request(flow_run.parameters, str(flow_run.id))
    crash = PanelworksError("crashed", f"The run crashed: {state.message or 'no reason was given'}")
    record_failure(request, pipeline.failed(request, crash), get_engine())


def fail_crashed_page(flow_run: FlowRun, crashes: int, engine: Engine) -> bool:
    """End a page that crashed too often: record its callback and its failure, then emit the end.

    Returns:
        False when that was done before.
    """
    request, _ = read_request(flow_run.parameters, str(flow_run.id))
    known = engine.jobs.job(request.key)
    if known is not None and (known.result.error is None or known.result.error.code == CRASHED_FOR_GOOD):
        return False
    reason = flow_run.state.message if flow_run.state else None
    message = f"The run crashed {crashes} times and is not restarted: {reason or 'no reason was given'}"
    result = pipeline.failed(request, PanelworksError(CRASHED_FOR_GOOD, message))
    callback_id = _record_callback(request, result, flow_run, engine)
    record_failure(request, result, engine)
    emit_page_end(request, result, callback_id=callback_id, flow_run_id=str(flow_run.id))
    return True


def _record_callback(
    request: PageRequest, result: PageResult, flow_run: FlowRun, engine: Engine
) -> str | None:
    """Before the failure is recorded: a process that is killed in between repeats both, and the callback has one id."""
    try:
        return engine.callbacks.record(request, result, str(flow_run.id))
    except PanelworksError as error:
        logger.error("callback of job %s was not recorded: %s", request.job_id, error)
        return None


async def state_before_processing(request: PageRequest, run_id: str) -> State[Any] | None:
    """The final state of a run that must not process its page: it was cancelled, or another run has its job."""
    try:
        if get_engine().accepted.take_cancellation(run_id):
            return Cancelled(message="Cancelled before the run began.")
    except PanelworksError as error:
        get_run_logger().warning("the check for a cancelled run was skipped: %s", error)
    return await duplicate_state(request, run_id)


async def duplicate_state(request: PageRequest, run_id: str) -> State[Any] | None:
    """The final state of a run whose job another run has; None when this run has the job.

    A job whose runs failed or were cancelled is processed again. If the store is unavailable the page is processed,
    possibly twice.
    """
    accepted = get_engine().accepted
    failed: frozenset[str] = frozenset()
    try:
        while (holder := accepted.claim(request.key, run_id, failed)) != run_id:
            if not await _has_failed(request.key, holder):
                return _duplicate_of(request.key, holder)
            failed |= {holder}
    except PanelworksError as error:
        get_run_logger().warning("the check for repeated events was skipped: %s", error)
    return None


def _duplicate_of(key: JobKey, holder: str) -> State[Any]:
    record = get_engine().jobs.job(key)
    ending = "has processed it" if record else "is processing it"
    message = (
        f"Job {key.job_id} was started before: run {holder} {ending}. Clear job_id to process the page again."
    )
    return Completed(name=DUPLICATE, message=message, data=record.result if record else None)


async def _has_failed(key: JobKey, run_id: str) -> bool:
    """Did the run end without a delivered page, and is it not going to be restarted?"""
    record = get_engine().jobs.job(key)
    if record is not None and record.result.status == "success":
        return False
    if (
        record is not None
        and record.result.error is not None
        and record.result.error.code == CRASHED_FOR_GOOD
    ):
        return True
    async with get_client() as client:
        try:
            run = await client.read_flow_run(UUID(run_id))
        except (ObjectNotFound, ValueError):
            return True
    return run.state is not None and run.state.type in (StateType.FAILED, StateType.CANCELLED)
