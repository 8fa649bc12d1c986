"""`panelworks schedule`: the schedules of the backfill deployment."""

import asyncio
from pathlib import Path
from typing import Any, Final

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from panelworks.cli.output import print_json
from panelworks.errors import Misconfigured

_DEPLOYMENT: Final = "backfill/backfill"


def set_schedule(name: str, cron: str, timezone: str | None, parameters: dict[str, str]) -> None:
    """Create or change a schedule of the backfill, and activate it.

    Args:
        name: The slug of the schedule.
        cron: Five fields.
        timezone: An IANA name; None keeps that of an existing schedule, else UTC.
        parameters: Parameters of the runs; other parameters of an existing schedule stay.

    Raises:
        Misconfigured: `bad_cron`, `bad_timezone`, `not_provisioned`.
    """
    cron_schedule(cron, timezone)
    asyncio.run(_set(name, cron, timezone, parameters))


def remove_schedule(name: str) -> None:
    """Remove a schedule of the backfill.

    Raises:
        Misconfigured: `no_schedule`, `not_provisioned`.
    """
    asyncio.run(_remove(name))


def list_schedules(*, json: bool) -> None:
    """Print the schedules of the backfill.

    Raises:
        Misconfigured: `not_provisioned`.
    """
    found = asyncio.run(_read())
    if not found and not json:
        print("The backfill has no schedule.")
    for one in found:
        row = _row(one)
        if json:
            print_json(row)
            continue
        state = "active" if row["active"] else "inactive"
        given = ", ".join(f"{key} {value}" for key, value in row["parameters"].items() if value)
        print(f"{row['name']}: {row['when']}, {state}{f'; {given}' if given else ''}")


def cron_schedule(cron: str, timezone: str | None) -> CronSchedule:
    """The schedule of a cron expression.

    Raises:
        Misconfigured: `bad_cron`, `bad_timezone`.
    """
    try:
        CronSchedule(cron=cron)
    except (ValidationError, ValueError) as error:
        raise Misconfigured(
            "bad_cron",
            f"'{cron}' is not a cron expression: it has five fields, minute hour day month weekday, such as"
            ' "0 22 * * *".',
        ) from error
    try:
        return CronSchedule(cron=cron, timezone=timezone or "UTC")
    except (ValidationError, ValueError) as error:
        raise Misconfigured(
            "bad_timezone", f"'{timezone}' is not a time zone: it has a name such as Europe/Berlin."
        ) from error


def absolute(location: str) -> str:
    """A local folder as an absolute path for the workers of this machine; addresses are not changed."""
    return location if "://" in location else str(Path(location).expanduser().absolute())


async def _set(name: str, cron: str, timezone: str | None, parameters: dict[str, str]) -> None:
    async with get_client() as client:
        deployment = await _deployment(client)
        found = _named(await client.read_deployment_schedules(deployment.id), name)
        if found is None:
            created = DeploymentScheduleCreate(
                schedule=cron_schedule(cron, timezone), active=True, parameters=parameters, slug=name
            )
            await client.create_deployment_schedules(deployment.id, [created])
            return
        zone = timezone or getattr(found.schedule, "timezone", None)
        await client.update_deployment_schedule(
            deployment.id,
            found.id,
            active=True,
            schedule=cron_schedule(cron, zone),
            parameters={**found.parameters, **parameters},
        )


async def _remove(name: str) -> None:
    async with get_client() as client:
        deployment = await _deployment(client)
        found = _named(await client.read_deployment_schedules(deployment.id), name)
        if found is None:
            raise Misconfigured("no_schedule", f"The backfill has no schedule '{name}'.")
        await client.delete_deployment_schedule(deployment.id, found.id)


async def _read() -> list[DeploymentSchedule]:
    async with get_client() as client:
        return await client.read_deployment_schedules((await _deployment(client)).id)


async def _deployment(client: PrefectClient) -> DeploymentResponse:
    try:
        return await client.read_deployment_by_name(_DEPLOYMENT)
    except ObjectNotFound as missing:
        raise Misconfigured(
            "not_provisioned",
            f"The Prefect server has no deployment {_DEPLOYMENT}: run 'panelworks provision' first.",
        ) from missing


def _named(schedules: list[DeploymentSchedule], name: str) -> DeploymentSchedule | None:
    return next((one for one in schedules if name in (one.slug, str(one.id))), None)


def _row(schedule: DeploymentSchedule) -> dict[str, Any]:
    described = schedule.schedule
    when = (
        f'"{described.cron}" {described.timezone or "UTC"}'
        if isinstance(described, CronSchedule)
        else str(described.model_dump(mode="json", exclude_none=True))
    )
    return {
        "name": schedule.slug or str(schedule.id),
        "when": when,
        "active": schedule.active,
        "parameters": schedule.parameters,
    }
