"""A worker of a pool as a process, and requests to the Prefect server."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, PREFECT_HOME
from prefect.types.entrypoint import EntrypointType

from tests.servers import AUTH, ROOT, until

Answer = TypeVar("Answer")


def interpreter() -> dict[str, str]:
    """Environment variables that an image sets: this interpreter is `python`, and the checkout can be imported."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HOME": os.environ.get("HOME", "/root"),
    }


def api_environment() -> dict[str, str]:
    """Environment variables with which a process calls the server."""
    return {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_API_AUTH_STRING": AUTH}


def call_prefect(request: Callable[[PrefectClient], Coroutine[Any, Any, Answer]]) -> Answer:
    """Run a request with a client of the server and return its result."""

    async def call() -> Answer:
        async with get_client() as client:
            return await request(client)

    return asyncio.run(call())


def make_pool(name: str, jobs: dict[str, Any], kind: str) -> None:
    """Create a work pool."""
    wanted = WorkPoolCreate(name=name, type=kind, base_job_template=jobs)
    call_prefect(lambda client: client.create_work_pool(wanted))


def deploy(flow: Flow[..., Any], pool: str) -> UUID:
    """Deploy a flow of this checkout; returns the deployment's id."""

    async def create(client: PrefectClient) -> UUID:
        entrypoint = (
            await flow.ato_deployment("here", entrypoint_type=EntrypointType.MODULE_PATH)
        ).entrypoint
        return await client.create_deployment(
            await client.create_flow(flow),
            flow.name,
            entrypoint=entrypoint,
            pull_steps=[{"deployments.checkout.enter": {}}],
            work_pool_name=pool,
        )

    return call_prefect(create)


def start(deployment: UUID, variables: dict[str, Any] | None = None, **parameters: Any) -> UUID:
    """Schedule a run; returns its id."""
    run = call_prefect(
        lambda client: client.create_flow_run_from_deployment(
            deployment, parameters=parameters, job_variables=variables
        )
    )
    return run.id


def read(run_id: UUID) -> FlowRun:
    """Read a run from the server."""
    return call_prefect(lambda client: client.read_flow_run(run_id))


def has_ended(run_id: UUID) -> bool:
    run = read(run_id)
    return run.state is not None and run.state.is_final()


def wait_for_end(run_id: UUID) -> tuple[StateType | None, str | None]:
    """Wait for the final state of a run; returns its type and name."""
    until(lambda: has_ended(run_id), 150)
    run = read(run_id)
    return run.state_type, run.state_name


def wait_until_running(run_id: UUID) -> None:
    """Wait until a run is running."""
    until(lambda: read(run_id).state_type == StateType.RUNNING, 120)


class Worker:
    """A worker process that can be stopped and started again."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        self.log = folder / "worker.log"
        self._command = [sys.executable, "-m", *command]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def in_background(self) -> Self:
        """Start it later as a script does with `&`: SIGINT is ignored."""
        self._command[:0] = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
        return self

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit code; None while it runs."""
        assert self._process
        return self._process.poll()

    def start(self) -> None:
        environment = {
            **interpreter(),
            **api_environment(),
            "PREFECT_HOME": str(PREFECT_HOME.value()),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "3",
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
            **self._environment,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, wait, and kill the process if it has not ended after 40 seconds."""
        assert self._process
        self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(40)
        self._process.kill()
        self._process.wait()
