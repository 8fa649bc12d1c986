"""Work pools: created from our templates, and checked without starting anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from deployments.names import QUEUES, PoolKind
from deployments.pools import UnknownKind, check, kind_of, render, template
from panelworks.errors import Misconfigured


@dataclass(frozen=True)
class PoolFinding:
    """The problems of the pool, or of a deployment in it."""

    deployment: str | None
    problems: tuple[str, ...]


async def create_pool(name: str, kind: PoolKind, *, overwrite: bool) -> bool:
    """Create a work pool with our template and queues; returns False when it exists and is not changed.

    Args:
        name: Of the pool.
        kind: Its type.
        overwrite: Replace the template of an existing pool by ours; changes made in the UI are lost.

    Raises:
        Misconfigured: `unknown_pool_type`, the package of its worker is not installed.
    """
    try:
        jobs = template(kind, name)
    except UnknownKind as error:
        raise Misconfigured("unknown_pool_type", str(error)) from error
    async with get_client() as client:
        made = WorkPoolCreate(name=name, type=kind, base_job_template=jobs)
        try:
            await client.create_work_pool(made)
        except ObjectAlreadyExists:
            if not overwrite:
                return False
            await client.update_work_pool(name, WorkPoolUpdate(base_job_template=jobs))
        await create_missing_queues(client, name)
    return True


async def create_missing_queues(client: PrefectClient, pool: str) -> list[str]:
    """Create the queues that a pool lacks, the most urgent first; returns their names. Existing queues are not changed."""
    created: list[str] = []
    for priority, name in enumerate(QUEUES, start=1):
        try:
            await client.create_work_queue(name=name, work_pool_name=pool, priority=priority)
        except ObjectAlreadyExists:
            continue
        created.append(name)
    return created


async def check_pool(name: str) -> list[PoolFinding]:
    """Render what a worker of the pool would start, for the pool and for each of its deployments, and check it.

    Raises:
        Misconfigured: `no_pool`; `unknown_pool_type`, it is of none of our types, or its package is missing.
    """
    async with get_client() as client:
        try:
            pool = await client.read_work_pool(name)
        except ObjectNotFound as error:
            raise Misconfigured("no_pool", f"The Prefect server has no work pool '{name}'.") from error
        deployments = await client.read_deployments(
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[name])),
            deployment_filter=DeploymentFilter(),
        )
        chosen: Sequence[tuple[str | None, dict[str, object]]] = [
            (None, {}),
            *((one.name, dict(one.job_variables or {})) for one in deployments),
        ]
        return [
            PoolFinding(deployment, tuple(await _problems(client, pool, variables)))
            for deployment, variables in chosen
        ]


async def _problems(client: PrefectClient, pool: WorkPool, variables: dict[str, object]) -> list[str]:
    try:
        kind = kind_of(pool.type)
        return check(await render(kind, pool.base_job_template, variables, client))
    except UnknownKind as error:
        raise Misconfigured("unknown_pool_type", str(error)) from error
    except ValueError as error:
        return [str(error)]
