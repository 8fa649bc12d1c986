"""Crashed pages, books and backfills: their runs are restarted, a few times; what was finished comes from the cache.

Not an automation: on SQLite, Prefect's own event handling drops an event after four attempts on a
locked database, and repeats those whose later triggers failed. Reading the crashed runs misses none.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.states import AwaitingRetry, Cancelled, Crashed

from deployments.checkout import pools
from deployments.names import PAGE_FLOWS, WORKER_LABEL
from orchestration.page_runs import fail_crashed_page
from panelworks.page.engine import Engine
from panelworks.page.pipeline import MAX_RUNS
from service.supervisor.leadership import Leadership

logger = logging.getLogger(__name__)

CHECK_INTERVAL_SECONDS: Final = 3.0
_RECENT: Final = timedelta(days=1)
_MIN_CRASH_AGE: Final = timedelta(seconds=8)
"""A process worker reports a crash twice, some three seconds apart; the second report would undo a restart."""
_FLOWS: Final = (*PAGE_FLOWS, "enhance-book", "backfill")
"""Flows whose crashed runs are restarted."""
_BOOK_OF_BACKFILL: Final = "backfill:"
"""Start of a tag of books whose backfill submits them again."""
_CLOCK_ERROR: Final = timedelta(seconds=5)
"""The start of a process is computed from the boot time, which the kernel rounds and corrects."""
_STATE_AFTER_DEATH: Final[dict[StateType, Callable[[], State[Any]]]] = {
    StateType.PENDING: lambda: AwaitingRetry(message="Its worker died before it began."),
    StateType.RUNNING: lambda: Crashed(message="The process of this run is gone."),
    StateType.CANCELLING: Cancelled,
}


async def restart_crashed_runs(engine: Engine, leadership: Leadership) -> None:
    """Restart crashed runs, or end those that crashed too often, while the supervisor runs and leads."""
    ended: set[UUID] = set()
    async with get_client() as client:
        while True:
            try:
                if leadership.leads:
                    await _restart_or_end(client, engine, leadership, ended)
            except Exception as error:  # noqa: BLE001 - whatever the cause, the next check may succeed
                logger.warning("crashed runs not checked: %s", type(error).__name__)
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)


async def _restart_or_end(
    client: PrefectClient, engine: Engine, leadership: Leadership, ended: set[UUID]
) -> None:
    for run in await read_crashed(client):
        is_old_enough = run.state is not None and datetime.now(UTC) - run.state.timestamp > _MIN_CRASH_AGE
        if not is_old_enough or run.id in ended:
            continue
        crashes = count_crashes(await client.read_flow_run_states(run.id))
        if not leadership.leads:
            return
        if crashes < MAX_RUNS:
            await client.set_flow_run_state(run.id, AwaitingRetry(message="Restarted after a crash."))
            logger.warning("run %s restarted: it crashed", run.id)
        else:
            is_page = (await client.read_flow(run.flow_id)).name in PAGE_FLOWS
            if not is_page or await asyncio.to_thread(fail_crashed_page, run, crashes, engine):
                logger.error("run %s ended: it crashed %s times", run.id, crashes)
            ended.add(run.id)


async def read_crashed(client: PrefectClient) -> list[FlowRun]:
    """Runs that crashed recently, without books that their backfill submits again."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED]))
    recent = FlowRunFilterEndTime(after_=datetime.now(UTC) - _RECENT)
    runs = await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=list(_FLOWS))),
        flow_run_filter=FlowRunFilter(state=state, end_time=recent),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(pools()))),
    )
    return [run for run in runs if not any(tag.startswith(_BOOK_OF_BACKFILL) for tag in run.tags)]


def count_crashes(states: list[State[Any]]) -> int:
    """How often a run crashed, from its states in any order: a crash that was reported twice counts once."""
    crashed = [state.is_crashed() for state in sorted(states, key=lambda state: state.timestamp)]
    return sum(after and not before for before, after in pairwise([False, *crashed]))


async def report_dead_runs(worker: str, pool: str, died: datetime) -> int:
    """Report the runs of a worker whose processes ended without a report; returns how many.

    When a worker dies with its runs, Prefect would notice by the silence of their heartbeats, minutes later. A
    supervisor restarts what crashed. Call this on the worker's machine, or in its container after a restart: the number
    of a run's process is valid only there.

    Args:
        worker: Name of the worker; no other running worker has it.
        pool: The pool that it serves.
        died: When it died; a run that it took before and that has no process never began.
    """
    async with get_client() as client:
        unfinished = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_STATE_AFTER_DEATH)))
            ),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        )
        alone = await _is_alone(client, worker, pool)
        dead = [
            run
            for run in unfinished
            if run.labels.get(WORKER_LABEL, worker if alone else None) == worker
            and (_is_dead(run) or _never_began(run, died))
        ]
        for run in dead:
            if run.state is not None:
                await client.set_flow_run_state(run.id, _STATE_AFTER_DEATH[run.state.type]())
        return len(dead)


async def _is_alone(client: PrefectClient, worker: str, pool: str) -> bool:
    """Does no other worker serve the pool? Then runs that have no label yet were taken by this one."""
    others = await client.read_workers_for_work_pool(pool)
    return all(one.name == worker or one.status != WorkerStatus.ONLINE for one in others)


def _never_began(run: FlowRun, died: datetime) -> bool:
    """Did the worker that died take the run, and had no time to start a process?"""
    state = run.state
    return (
        run.infrastructure_pid is None
        and state is not None
        and state.type == StateType.PENDING
        and state.timestamp < died
    )


def _is_dead(run: FlowRun) -> bool:
    """Did the run's process end, perhaps without having been collected by its parent, or does another one have its number?"""
    pid = run.infrastructure_pid
    if run.state is None or pid is None or not pid.isdigit():
        return False
    try:
        process = psutil.Process(int(pid))
        began = datetime.fromtimestamp(process.create_time(), UTC)
        return process.status() == psutil.STATUS_ZOMBIE or began > run.state.timestamp + _CLOCK_ERROR
    except psutil.NoSuchProcess:
        return True
