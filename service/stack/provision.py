"""What the Prefect server must know: pool, queues, limits, blocks, automations, deployments. Idempotent."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkerStatus
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Crashed

from blocks import EnhancementProfile, RunPodCredentials
from deployments.automations import notify_failures, zombies
from deployments.checkout import ROOT
from deployments.names import POOL, worker_name
from deployments.pools import template
from deployments.targets import PREFECT_FILE, pool_of, write_for
from panelworks.errors import Misconfigured
from service.pools import make_queues
from service.stack.plan import StackPlan

_NOTIFIER: Final = "panelworks-failures"
_TO_FILL_IN: Final = "https://example.invalid/fill-in-your-webhook"

_AFTER_DEATH: Final[dict[StateType, Callable[[], State[Any]]]] = {
    StateType.PENDING: lambda: AwaitingRetry(message="Its worker died before it began."),
    StateType.RUNNING: lambda: Crashed(message="The process of this run is gone."),
    StateType.CANCELLING: Cancelled,
}
_ALIVE: Final = timedelta(seconds=90)
"""A worker that was heard of within three heartbeats is alive."""


async def provision(plan: StackPlan, environment: dict[str, str]) -> None:
    """Bring the server to where a worker can serve pages. What is there already stays.

    Raises:
        Misconfigured: `not_deployed`, prefect refused `prefect.yaml`; `no_pool`, the target's pool is still to be made.
    """
    pool = pool_of(plan.target)
    async with get_client() as client:
        await _pool(client, pool)
        await make_queues(client, pool)
        if plan.target == "local":  # elsewhere a run has its GPU to itself
            limit = environment["PANELWORKS_GPU_LIMIT"]
            await client.upsert_global_concurrency_limit_by_name(limit, plan.gpu)
        for block in (EnhancementProfile, RunPodCredentials):
            await block.register_type_and_schema(client=client)
        for automation in (zombies(), await _notification(client)):
            await _automation(client, automation)
        _deploy(plan, environment)


async def our_worker_is_online() -> bool:
    """Does the server hear the worker of this machine?"""
    async with get_client() as client:
        workers = await client.read_workers_for_work_pool(POOL)
        return any(one.name == worker_name() and one.status == WorkerStatus.ONLINE for one in workers)


async def report_dead_runs(died: datetime) -> int:
    """Report runs whose process on this machine is gone, and which nobody reported; returns how many.

    When a worker dies with its runs, or a stack is stopped, Prefect would notice by the silence of
    their heartbeats, minutes later. The gateway starts again what crashed. A run knows the number
    of its process but not its machine: while workers of other machines are alive, nothing is reported.

    Args:
        died: When the worker died; a run that it took before and whose process it never named has none.
    """
    async with get_client() as client:
        now = datetime.now(UTC)
        for worker in await client.read_workers_for_work_pool(POOL):
            heard = worker.last_heartbeat_time
            if worker.name != worker_name() and heard and now - heard < _ALIVE:
                return 0
        open_runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(_AFTER_DEATH)))
            ),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
        )
        dead = [run for run in open_runs if _is_dead(run.infrastructure_pid) or _never_began(run, died)]
        for run in dead:
            if run.state is not None:
                await client.set_flow_run_state(run.id, _AFTER_DEATH[run.state.type]())
        return len(dead)


def _never_began(run: FlowRun, died: datetime) -> bool:
    """Was the run taken by the worker that died, which then had no time to start a process?"""
    state = run.state
    return (
        run.infrastructure_pid is None
        and state is not None
        and state.type == StateType.PENDING
        and state.timestamp < died
    )


def _is_dead(pid: str | None) -> bool:
    """Is the process gone, or dead and only not yet collected by its parent?"""
    if pid is None or not pid.isdigit():
        return False
    try:
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def _pool(client: PrefectClient, name: str) -> None:
    """The pool of this machine is made here; of what type another one is, an operator decides."""
    try:
        await client.read_work_pool(name)
    except ObjectNotFound as missing:
        if name != POOL:
            raise Misconfigured(
                "no_pool",
                f"There is no work pool '{name}'; make it by: panelworks pools create {name} --type TYPE",
            ) from missing
        wanted = WorkPoolCreate(
            name=name,
            type="process",
            description="Machines that enhance pages.",
            base_job_template=template("process", name),
        )
        await client.create_work_pool(wanted)


async def _notification(client: PrefectClient) -> AutomationCore:
    """The notification of failed runs: switched on once its block says where to."""
    try:
        block = await client.read_block_document_by_name(_NOTIFIER, "custom-webhook")
        document, url = block.id, block.data.get("url")
    except ObjectNotFound:
        url = _TO_FILL_IN
        document = await CustomWebhookNotificationBlock(
            name=_NOTIFIER, url=url, method="POST", json_data={"text": "{{subject}}\n{{body}}"}
        ).save(_NOTIFIER)
    return notify_failures(document, enabled=url != _TO_FILL_IN)


async def _automation(client: PrefectClient, wanted: AutomationCore) -> None:
    """Create an automation, or bring the one of that name up to date."""
    try:
        found = await client.read_automations_by_name(wanted.name)
    except ObjectNotFound:
        found = []
    if found:
        await client.update_automation(found[0].id, wanted)
    else:
        await client.create_automation(wanted)


def _deploy(plan: StackPlan, environment: dict[str, str]) -> None:
    with TemporaryDirectory() as folder:
        file = PREFECT_FILE if plan.target == "local" else write_for(plan.target, Path(folder))
        done = subprocess.run(  # noqa: S603 - our own command line
            plan.deploy_command(file),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    if done.returncode:
        told = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise Misconfigured("not_deployed", "prefect.yaml could not be deployed: " + " ".join(told))
