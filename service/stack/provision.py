"""Provisioning the Prefect server: pool, queues, limits, blocks, automations, deployments.

Provisioning creates what is missing and updates what belongs to the release. What operators changed stays as it is.
"""

from typing import Any, Final

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import WorkerStatus
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from deployments.automations import failure_notification, zombie_automation
from deployments.checkout import pool_of
from deployments.manifest import read_deployments
from deployments.names import POOL, worker_name
from deployments.pools import template
from panelworks.errors import Misconfigured
from panelworks.settings import get_settings
from service.pools import create_missing_queues
from service.stack.blocks import provision_blocks
from service.stack.deploying import Deployer
from service.stack.merging import Difference, ProvisioningRecords, merge, record
from service.stack.plan import StackPlan

_NOTIFIER: Final = "panelworks-failures"
_TO_FILL_IN: Final = "https://example.invalid/fill-in-your-webhook"


async def provision(
    plan: StackPlan, environment: dict[str, str], *, overwrite: bool = False
) -> list[Difference]:
    """Create or update what workers need at the server; returns what was created, updated or kept.

    Args:
        plan: Target, and the limit of the GPU when it was chosen.
        environment: Of the stack's parts; this process's environment holds the same values.
        overwrite: Take the values of the release also where an operator changed them.

    Raises:
        Misconfigured: `not_deployed`, the server refuses a deployment; `no_pool`, the target's pool does not exist.
    """
    pool = pool_of(plan.target)
    async with get_client() as client:
        stored_records = ProvisioningRecords(client)
        deployer = Deployer(client, stored_records, overwrite=overwrite)
        differences = await _pool(client, stored_records, pool, overwrite=overwrite)
        differences += [
            Difference(f"queue {pool}/{queue}", "created")
            for queue in await create_missing_queues(client, pool)
        ]
        if plan.target == "local":  # elsewhere a run has its GPU to itself
            differences += await _limit(client, environment["PANELWORKS_GPU_LIMIT"], plan.gpu)
        differences += await provision_blocks(client, pool, get_settings())
        for automation in (zombie_automation(), await _notification(client)):
            await deployer.automate(automation)
        for spec in read_deployments(plan.target):
            await deployer.deploy(spec)
        await stored_records.save()
        return [*differences, *deployer.differences]


async def our_worker_is_online() -> bool:
    """Does the server receive heartbeats of this machine's worker?"""
    async with get_client() as client:
        workers = await client.read_workers_for_work_pool(POOL)
        return any(one.name == worker_name() and one.status == WorkerStatus.ONLINE for one in workers)


async def _pool(
    client: PrefectClient, stored_records: ProvisioningRecords, name: str, *, overwrite: bool
) -> list[Difference]:
    """Create or update the pool of this machine. An operator creates other pools."""
    records = await stored_records.load("pools")
    try:
        found = await client.read_work_pool(name)
    except ObjectNotFound as missing:
        if name != POOL:
            raise Misconfigured(
                "no_pool",
                f"There is no work pool '{name}'; create it with: panelworks pools create {name} --type TYPE",
            ) from missing
        jobs = template("process", name)
        wanted = WorkPoolCreate(
            name=name, type="process", description="Machines that enhance pages.", base_job_template=jobs
        )
        await client.create_work_pool(wanted)
        records[name] = record(_template_fields(jobs), nested=_TEMPLATE_OBJECTS)
        return [Difference(f"pool {name}", "created")]
    if name != POOL or found.type != "process":
        return []
    merged = merge(
        _template_fields(template("process", name)),
        _template_fields(found.base_job_template),
        records.get(name, {}),
        nested=_TEMPLATE_OBJECTS,
        overwrite=overwrite,
    )
    if merged.changed:
        jobs = _as_template(found.base_job_template, merged.values)
        await client.update_work_pool(name, WorkPoolUpdate(base_job_template=jobs))
    records[name] = merged.written
    return list(merged.differences(f"pool {name}"))


_TEMPLATE_OBJECTS: Final = frozenset({"job_configuration", "defaults"})


def _template_fields(jobs: dict[str, Any]) -> dict[str, Any]:
    """A base job template in the parts that are compared: the values of its form apart from the form itself."""
    variables: dict[str, dict[str, Any]] = jobs.get("variables", {}).get("properties", {})
    return {
        "job_configuration": jobs.get("job_configuration", {}),
        "defaults": {
            name: {"default": one["default"]} for name, one in variables.items() if "default" in one
        },
        "form": {name: {k: v for k, v in one.items() if k != "default"} for name, one in variables.items()},
    }


def _as_template(found: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """The template of a pool with merged fields."""
    defaults: dict[str, dict[str, Any]] = fields["defaults"]
    properties = {name: {**form, **defaults.get(name, {})} for name, form in fields["form"].items()}
    return {
        **found,
        "job_configuration": fields["job_configuration"],
        "variables": {**found.get("variables", {}), "properties": properties},
    }


async def _limit(client: PrefectClient, name: str, chosen: int | None) -> list[Difference]:
    """The limit of this machine's GPU: 1 when it is missing; an existing one changes only when `chosen` says so."""
    subject = f"limit {name}"
    try:
        found = await client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        await client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=chosen or 1)
        )
        return [Difference(subject, "created", str(chosen or 1))]
    if chosen is None or found.limit == chosen:
        return [Difference(subject, "kept", f"{found.limit}; --gpu changes it")] if found.limit != 1 else []
    await client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=chosen))
    return [Difference(subject, "updated", f"{found.limit} to {chosen}")]


async def _notification(client: PrefectClient) -> AutomationCore:
    """The notification of failed runs: enabled once its block has an address."""
    try:
        block = await client.read_block_document_by_name(_NOTIFIER, "custom-webhook")
        document, url = block.id, block.data.get("url")
    except ObjectNotFound:
        url = _TO_FILL_IN
        document = await CustomWebhookNotificationBlock(
            name=_NOTIFIER, url=url, method="POST", json_data={"text": "{{subject}}\n{{body}}"}
        ).save(_NOTIFIER)
    return failure_notification(document, enabled=url != _TO_FILL_IN)
