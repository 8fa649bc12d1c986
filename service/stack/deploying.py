"""Deployments, their schedules and all automations: created when missing, else merged with what operators changed.

`prefect deploy` is not used: it resets schedules and parameters, and deletes and recreates automations.
"""

from collections.abc import Iterator
from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import TypeAdapter

from deployments.checkout import pools
from deployments.manifest import DeploymentSpec, ScheduleSpec
from panelworks.errors import Misconfigured
from service.stack.merging import Difference, ProvisioningRecords, digest, merge, record

_DEPLOYMENT_OBJECTS: Final = frozenset({"parameters", "job_variables"})
_SCHEDULE_OBJECTS: Final = frozenset({"parameters"})
_AUTOMATION_FIELDS: Final = (
    "name", "description", "enabled", "tags", "trigger", "actions", "actions_on_trigger", "actions_on_resolve",
)  # fmt: skip
_ID: Final = "id"
"""In the record of a schedule or automation: the server's id, by which it is found after it was renamed."""
_ANY_SCHEDULE: TypeAdapter[Any] = TypeAdapter(SCHEDULE_TYPES)


class Deployer:
    """Brings the deployments and automations of one server up to date."""

    def __init__(
        self, client: PrefectClient, stored_records: ProvisioningRecords, *, overwrite: bool = False
    ) -> None:
        """`overwrite`: take the values of the release also where an operator changed them."""
        self._client = client
        self._records = stored_records
        self._overwrite = overwrite
        self.differences: list[Difference] = []

    async def deploy(self, spec: DeploymentSpec) -> None:
        """A deployment with its schedules and triggers.

        Raises:
            Misconfigured: `not_deployed`, the server refuses it.
        """
        try:
            found = await self._deployment(spec)
            await self._schedules(spec, found)
            for trigger in spec.triggers:
                trigger.set_deployment_id(found.id)
                await self.automate(trigger.as_automation())
        except PrefectHTTPStatusError as refused:
            raise Misconfigured(
                "not_deployed", f"The Prefect server refused the deployment {spec.full_name}: {refused}"
            ) from refused

    async def automate(self, wanted: AutomationCore) -> None:
        """Create an automation, or merge the existing one."""
        records = await self._records.load("automations")
        last = records.get(wanted.name, {})
        fields = _automation_fields(wanted)
        found = await self._automation(wanted.name, last.get(_ID))
        subject = f"automation {wanted.name}"
        if found is None:
            identity = await self._client.create_automation(wanted)
            records[wanted.name] = {_ID: str(identity), **record(fields)}
            self.differences.append(Difference(subject, "created"))
            return
        merged = merge(fields, _automation_fields(found), last, overwrite=self._overwrite)
        if merged.changed:
            await self._client.update_automation(found.id, AutomationCore.model_validate(merged.values))
        records[wanted.name] = {_ID: str(found.id), **merged.written}
        self.differences += merged.differences(subject)

    async def _automation(self, name: str, identity: str | None) -> Automation | None:
        """The automation with the recorded id, so that a renamed one is not created again; else the one with this name."""
        if identity is not None:
            try:
                if found := await self._client.read_automation(identity):
                    return found
            except (ObjectNotFound, PrefectHTTPStatusError):
                pass
        named = await self._client.read_automations_by_name(name)
        return named[0] if named else None

    async def _deployment(self, spec: DeploymentSpec) -> DeploymentResponse:
        records = await self._records.load("deployments")
        try:
            found = await self._client.read_deployment_by_name(spec.full_name)
        except ObjectNotFound:
            return await self._create(spec)
        last = records.get(spec.full_name, {})
        fields = _deployment_fields(found)
        if not last and found.work_pool_name in pools():
            last = {"work_pool_name": digest(found.work_pool_name)}  # an earlier release chose it
        merged = merge(spec.fields, fields, last, nested=_DEPLOYMENT_OBJECTS, overwrite=self._overwrite)
        changes = _as_update({name: merged.values[name] for name in merged.changed}, merged.values)
        code = {name: value for name, value in spec.code.items() if value != getattr(found, name)}
        if changes or code:
            await self._client.update_deployment(found.id, DeploymentUpdate(**changes, **code))
        records[spec.full_name] = merged.written
        subject = f"deployment {spec.full_name}"
        if code:
            self.differences.append(Difference(subject, "updated", ", ".join(code)))
        self.differences += merged.differences(subject)
        return found

    async def _create(self, spec: DeploymentSpec) -> DeploymentResponse:
        fields = dict(spec.fields)
        strategy = fields.pop("collision_strategy")
        identity = await self._client.create_deployment(
            await self._client.create_flow(spec.flow),
            spec.name,
            concurrency_options=ConcurrencyOptions(collision_strategy=strategy) if strategy else None,
            **fields,
            **spec.code,
        )
        records = await self._records.load("deployments")
        records[spec.full_name] = record(spec.fields, nested=_DEPLOYMENT_OBJECTS)
        schedules = await self._records.load("schedules")
        for schedule in spec.schedules:
            schedules.pop(_schedule_name(spec, schedule), None)
        self.differences.append(Difference(f"deployment {spec.full_name}", "created"))
        return await self._client.read_deployment(identity)

    async def _schedules(self, spec: DeploymentSpec, found: DeploymentResponse) -> None:
        records = await self._records.load("schedules")
        present = await self._client.read_deployment_schedules(found.id)
        for wanted in spec.schedules:
            name = _schedule_name(spec, wanted)
            last = records.get(name, {})
            subject = f"schedule {name}"
            there = next(
                (one for one in present if str(one.id) == last.get(_ID) or one.slug == wanted.slug), None
            )
            if there is None and last and not self._overwrite:
                self.differences.append(Difference(subject, "kept", "it was removed by an operator"))
                continue
            fields = _schedule_fields(wanted)
            if there is None:
                made = await self._client.create_deployment_schedules(
                    found.id,
                    [
                        DeploymentScheduleCreate(
                            schedule=wanted.schedule, active=wanted.active, parameters=wanted.parameters, slug=wanted.slug
                        )
                    ],
                )  # fmt: skip
                records[name] = {_ID: str(made[0].id), **record(fields, nested=_SCHEDULE_OBJECTS)}
                self.differences.append(Difference(subject, "created"))
                continue
            merged = merge(
                fields, _schedule_fields(there), last, nested=_SCHEDULE_OBJECTS, overwrite=self._overwrite
            )
            if merged.changed:
                await self._client.update_deployment_schedule(
                    found.id,
                    there.id,
                    active=merged.values["active"],
                    schedule=_ANY_SCHEDULE.validate_python(merged.values["schedule"]),
                    parameters=merged.values["parameters"],
                )
            records[name] = {_ID: str(there.id), **merged.written}
            self.differences += merged.differences(subject)


def _schedule_name(spec: DeploymentSpec, schedule: ScheduleSpec) -> str:
    return f"{spec.full_name}/{schedule.slug}"


def _deployment_fields(found: DeploymentResponse) -> dict[str, Any]:
    limit, options = found.global_concurrency_limit, found.concurrency_options
    return {
        "description": found.description,
        "tags": sorted(found.tags),
        "parameters": found.parameters,
        "enforce_parameter_schema": found.enforce_parameter_schema,
        "concurrency_limit": limit.limit if limit else None,
        "collision_strategy": options.collision_strategy.value if options else None,
        "work_pool_name": found.work_pool_name,
        "work_queue_name": found.work_queue_name,
        "job_variables": found.job_variables,
    }


def _as_update(changes: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Changed fields in the format of the server: pool and queue together, the strategy in an object of its own."""
    changes = dict(changes)
    if "collision_strategy" in changes:
        strategy = changes.pop("collision_strategy")
        changes["concurrency_options"] = ConcurrencyOptions(collision_strategy=strategy) if strategy else None
    if changes.keys() & {"work_pool_name", "work_queue_name"}:
        changes |= {name: values[name] for name in ("work_pool_name", "work_queue_name")}
    return changes


def _schedule_fields(schedule: ScheduleSpec | DeploymentSchedule) -> dict[str, Any]:
    return {
        "schedule": _schedule_value(schedule.schedule),
        "active": schedule.active,
        "parameters": schedule.parameters,
    }


def _schedule_value(schedule: Any) -> dict[str, Any]:
    value: dict[str, Any] = schedule.model_dump(mode="json")
    if isinstance(schedule, CronSchedule):
        return {"cron": value["cron"], "timezone": value["timezone"] or "UTC", "day_or": value["day_or"]}
    return value


def _automation_fields(automation: AutomationCore) -> dict[str, Any]:
    dumped = automation.model_dump(mode="json", include=set(_AUTOMATION_FIELDS))
    normal: dict[str, Any] = _normal(dumped)
    return normal


def _normal(value: Any) -> Any:
    """Without the ids that the server gives to triggers, and with sets in one order."""
    if isinstance(value, dict):
        return {name: _normal(inner) for name, inner in _without_ids(value)}
    if isinstance(value, list):
        inner = [_normal(one) for one in value]
        return sorted(inner) if all(isinstance(one, str) for one in inner) else inner
    return value


def _without_ids(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, inner) for name, inner in value.items() if name != "id")
