"""Pods of Kubernetes and tasks of ECS, simulated by processes with command and environment of our templates."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import psutil
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import Pending

from deployments.names import PoolKind
from deployments.pools import Rendered, ecs_requests, worker_class
from tests.deployments.server import call_prefect, interpreter
from tests.deployments.spot.pages import Page
from tests.servers import ROOT


class Pod:
    """The infrastructure that the worker of a pool starts for a run."""

    def __init__(
        self, kind: PoolKind, page: Page, name: str, volume: Path | None = None, /, **machine: str
    ) -> None:
        """Start it. `volume` is mounted at /models; by default, the one that the pool's machines share."""
        models = str(volume or page.volume)
        command, environment = _container(call_prefect(lambda client: _taken(client, kind, page.run)))
        mounted = {key: value.replace("/models", models) for key, value in environment.items()}
        own = {"PREFECT_HOME": str(page.place / name), "DEVICE": "cpu", **machine}
        with (page.place / f"{name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**interpreter(), **mounted, **own},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for process in self.family():
            process.kill()
        self._process.wait()

    def family(self) -> list[psutil.Process]:
        """All its running processes."""
        if self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def preempt(self) -> None:
        """The first action of a spot interruption: SIGTERM to the pod's first process."""
        os.kill(self._process.pid, signal.SIGTERM)

    def ended(self) -> int:
        """Its exit code."""
        return self._process.wait(90)


async def _taken(client: PrefectClient, kind: PoolKind, run: UUID) -> Rendered:
    """Act as the worker for a scheduled run: set it to Pending, and render its job."""
    flow_run = await client.read_flow_run(run)
    pending: State[Any] = Pending()
    answer = await client.set_flow_run_state(run, pending)
    assert answer.status == SetStateStatus.ACCEPT
    configuration = await worker_class(kind).job_configuration.resolve_for_flow_run(
        flow_run,
        client=client,
        work_pool=await client.read_work_pool(str(flow_run.work_pool_name)),
        worker_name="spot",
    )
    return Rendered(kind, configuration, flow_run)


def _container(rendered: Rendered) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the container."""
    if rendered.kind == "ecs":
        definition, request = ecs_requests(rendered)
        asked_for = request["overrides"]["containerOverrides"][0]
        command = [*definition["containerDefinitions"][0]["entryPoint"], *asked_for["command"]]
        return command, _flat(asked_for["environment"])
    manifest: dict[str, Any] = rendered.configuration.model_dump()["job_manifest"]
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    return container["args"], _flat(container["env"])


def _flat(variables: list[dict[str, str]]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in variables}


def alive(process: psutil.Process) -> bool:
    """Whether a process is running."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
