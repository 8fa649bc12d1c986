"""The deployments of `prefect.yaml`, in the types of Prefect's client."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentTriggerTypes
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values
from pydantic import TypeAdapter

from deployments.checkout import Target, deployments_of, pull_steps

_TRIGGERS: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)


@dataclass(frozen=True)
class ScheduleSpec:
    """A schedule that a new deployment gets."""

    slug: str
    schedule: CronSchedule
    active: bool
    parameters: dict[str, Any]


@dataclass(frozen=True)
class DeploymentSpec:
    """One deployment of `prefect.yaml`."""

    name: str
    flow: Flow[..., Any]
    code: dict[str, Any]
    """Fields that the checkout defines: entrypoint, pull steps, parameter schema."""
    fields: dict[str, Any]
    """Fields that an operator may edit in the UI."""
    schedules: tuple[ScheduleSpec, ...]
    triggers: tuple[DeploymentTriggerTypes, ...]

    @property
    def full_name(self) -> str:
        """`flow/deployment`, the name that Prefect uses."""
        return f"{self.flow.name}/{self.name}"


def read_deployments(target: Target) -> list[DeploymentSpec]:
    """The deployments of a target. Templates of environment variables are rendered; flows are imported."""
    return [_spec(config) for config in deployments_of(target)]


def _spec(config: Mapping[str, Any]) -> DeploymentSpec:
    flow: Flow[..., Any] = load_flow_from_entrypoint(config["entrypoint"])
    pool = apply_values(config["work_pool"], {})
    limit = config.get("concurrency_limit") or {}
    return DeploymentSpec(
        name=config["name"],
        flow=flow,
        code={
            "entrypoint": config["entrypoint"],
            "pull_steps": pull_steps(),
            "parameter_openapi_schema": parameter_schema(flow).model_dump(mode="json"),
        },
        fields={
            "description": config.get("description") or flow.description,
            "tags": sorted(config.get("tags") or []),
            "parameters": config.get("parameters") or {},
            "enforce_parameter_schema": bool(config.get("enforce_parameter_schema", True)),
            "concurrency_limit": limit.get("limit"),
            "collision_strategy": limit.get("collision_strategy"),
            "work_pool_name": pool["name"],
            "work_queue_name": pool["work_queue_name"],
            "job_variables": pool.get("job_variables") or {},
        },
        schedules=tuple(_schedule(one) for one in config.get("schedules") or ()),
        # The server renders the templates in triggers, with the event.
        triggers=tuple(_TRIGGERS.validate_python(dict(one)) for one in config.get("triggers") or ()),
    )


def _schedule(config: Mapping[str, Any]) -> ScheduleSpec:
    return ScheduleSpec(
        slug=config["slug"],
        schedule=CronSchedule(cron=config["cron"], timezone=config.get("timezone") or "UTC"),
        active=bool(config.get("active", True)),
        parameters=dict(config.get("parameters") or {}),
    )
