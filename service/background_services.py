"""Evidence, read through Prefect's API, that background services of its server do not work.

Prefect reports the health of its API only. A scheduler or late-run monitor that fails in each of its rounds is
visible in the server's log and by what is missing: an active schedule whose next run was not created, and a waiting
run that was not marked as late. Both checks read a few rows, write nothing, and are the same on SQLite and Postgres.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort

GRACE: Final = timedelta(seconds=180)
"""Three rounds of the scheduler (60 s); the late-run monitor has a round every 5 s and waits 15 s."""
_MAX_INTERVAL: Final = timedelta(days=60)
"""Prefect creates no run that is more than 100 days ahead; schedules with longer intervals prove nothing."""
_PAGE: Final = 200
_MAX_RUNS: Final = 2_000
"""Future runs of one deployment that are read: Prefect creates up to 100 of each schedule."""


async def stopped_services(client: PrefectClient, grace: timedelta = GRACE) -> dict[str, str]:
    """The services that do not work, each with a sentence; empty when there is no evidence.

    Args:
        client: Client of the server.
        grace: How long the services may take.
    """
    found: dict[str, str] = {}
    if missing := await _schedules_without_runs(client, grace):
        found["scheduler"] = (
            f"Prefect's scheduler does not work: it created no run for the active schedule of {missing[0]};"
            " see server.log"
        )
    if waiting := await _unmarked_late_runs(client, grace):
        found["late_runs"] = (
            f"Prefect's late-run monitor does not work: the run '{waiting[0].name}' is not marked as late;"
            " see server.log"
        )
    return found


async def _schedules_without_runs(client: PrefectClient, grace: timedelta) -> list[str]:
    """Deployments with an active schedule whose next run should exist and does not."""
    latest_change = datetime.now(UTC) - grace
    due: dict[UUID, str] = {}
    deployments: list[DeploymentResponse] = []
    offset = 0
    while batch := await client.read_deployments(limit=_PAGE, offset=offset):
        deployments += batch
        offset += len(batch)
    for deployment in deployments:
        for schedule in deployment.schedules:
            if _should_have_runs(deployment, schedule, latest_change):
                due[schedule.id] = deployment.name
    if not due:
        return []
    owners = [one.id for one in deployments if any(schedule.id in due for schedule in one.schedules)]
    for (
        owner
    ) in owners:  # one request each: the runs of a frequent schedule must not hide those of another one
        for schedule_id in await _schedules_with_runs(client, owner):
            due.pop(schedule_id, None)
    return sorted(due.values())


def _should_have_runs(
    deployment: DeploymentResponse, schedule: DeploymentSchedule, latest_change: datetime
) -> bool:
    """Has the scheduler had time since the last change? A change of the deployment deletes its future runs."""
    changes = [one.updated for one in (deployment, schedule) if one.updated is not None]
    return (
        schedule.active
        and not deployment.paused
        and all(change < latest_change for change in changes)
        and _is_frequent(schedule.schedule)
    )


def _is_frequent(schedule: Any) -> bool:
    if isinstance(schedule, IntervalSchedule):
        return schedule.interval <= _MAX_INTERVAL
    # A month is the fourth field; `@daily` and the like have one field.
    fields = schedule.cron.split() if isinstance(schedule, CronSchedule) else []
    return len(fields) == 5 and fields[3] == "*"


async def _schedules_with_runs(client: PrefectClient, deployment: UUID) -> set[UUID]:
    """The schedules that have a run in the future."""
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(after_=datetime.now(UTC)),
    )
    found: set[UUID] = set()
    for offset in range(0, _MAX_RUNS, _PAGE):
        runs = await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=_PAGE, offset=offset
        )
        found |= _schedules_of(runs)
        if len(runs) < _PAGE:
            break
    return found


def _schedules_of(runs: Iterable[FlowRun]) -> set[UUID]:
    return {run.created_by.id for run in runs if run.created_by is not None and run.created_by.id is not None}


async def _unmarked_late_runs(client: PrefectClient, grace: timedelta) -> list[FlowRun]:
    wanted = FlowRunFilter(
        state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Scheduled"])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=datetime.now(UTC) - grace),
    )
    return await client.read_flow_runs(flow_run_filter=wanted, limit=1)
