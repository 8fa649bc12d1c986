"""Flow runs as a worker of rented machines reads them while it follows what runs them."""

import logging
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.exceptions import ObjectNotFound

from deployments.names import WORKER_LABEL

logger = logging.getLogger(__name__)

_PAGE_SIZE: Final = 200
"""Runs in one answer of Prefect's API at most."""


class Missing:
    """A run that does not exist in Prefect."""


async def read_run(client: PrefectClient, flow_run_id: UUID) -> FlowRun | Missing | None:
    """The run now; None while Prefect is unreachable."""
    try:
        return await client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return Missing()
    except httpx.HTTPError as error:
        logger.warning("state of run %s unknown: Prefect unreachable (%s)", flow_run_id, type(error).__name__)
        return None


async def read_runs(client: PrefectClient, pool: str, states: Iterable[StateType]) -> list[FlowRun]:
    """All runs of a pool that are in one of the states."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=state),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
            limit=_PAGE_SIZE,
            offset=len(found),
        )
        found += page
        if len(page) < _PAGE_SIZE:
            return found


async def read_other_workers(client: PrefectClient, pool: str, own_name: str) -> frozenset[str]:
    """Names of the other workers of a pool that send heartbeats."""
    workers = await client.read_workers_for_work_pool(pool)
    return frozenset(
        one.name for one in workers if one.name != own_name and one.status == WorkerStatus.ONLINE
    )


def is_taken_by(run: FlowRun, workers: frozenset[str]) -> bool:
    """Whether one of the workers took the run last."""
    return run.labels.get(WORKER_LABEL) in workers
