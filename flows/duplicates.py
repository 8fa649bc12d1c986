"""Runs that must not process their page: cancelled before they began, or repeated events whose job another run has."""

from typing import Any, Final
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed

from flows.crashes import GAVE_UP
from panelworks.domain.request import JobKey, PageRequest
from panelworks.errors import PanelworksError
from panelworks.page.engine import get_engine

DUPLICATE: Final = "Duplicate"
"""The name of the state in which a repeated run ends."""


async def state_before_processing(request: PageRequest, run_id: str) -> State[Any] | None:
    """The final state of a run that must not process its page; None when it processes it."""
    try:
        if get_engine().accepted.take_cancellation(run_id):
            return Cancelled(message="Cancelled before the run began.")
    except PanelworksError as error:
        get_run_logger().warning("The check for a cancelled run was skipped: %s", error)
    return await duplicate_state(request, run_id)


async def duplicate_state(request: PageRequest, run_id: str) -> State[Any] | None:
    """The final state of a run whose job another run has; None when this run has the job.

    A job whose runs failed or were cancelled is processed again. Without the store, the page is processed: at worst
    twice.
    """
    accepted = get_engine().accepted
    failed: frozenset[str] = frozenset()
    try:
        while (holder := accepted.claim(request.key, run_id, failed)) != run_id:
            if not await _has_failed(request.key, holder):
                return _duplicate_of(request.key, holder)
            failed |= {holder}
    except PanelworksError as error:
        get_run_logger().warning("The check for repeated events was skipped: %s", error)
    return None


def _duplicate_of(key: JobKey, holder: str) -> State[Any]:
    record = get_engine().jobs.job(key)
    ending = "has processed it" if record else "is processing it"
    message = (
        f"Job {key.job_id} was started before: run {holder} {ending}. Clear job_id to process the page again."
    )
    return Completed(name=DUPLICATE, message=message, data=record.result if record else None)


async def _has_failed(key: JobKey, run_id: str) -> bool:
    """Did the run end without a delivered page, and will not be restarted?"""
    record = get_engine().jobs.job(key)
    if record is not None and record.result.status == "success":
        return False
    if record is not None and record.result.error is not None and record.result.error.code == GAVE_UP:
        return True
    async with get_client() as client:
        try:
            run = await client.read_flow_run(UUID(run_id))
        except (ObjectNotFound, ValueError):
            return True
    return run.state is not None and run.state.type in (StateType.FAILED, StateType.CANCELLED)
