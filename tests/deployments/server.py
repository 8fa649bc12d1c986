"""A Prefect server and a worker of its pool as separate processes, and functions that call them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.types.entrypoint import EntrypointType

from tests.conftest import free_port
from tests.live.stack import until

ROOT = Path(__file__).parents[2]
AUTH = "panelworks:for-tests"
Answer = TypeVar("Answer")


def interpreter() -> dict[str, str]:
    """The environment of an image: this interpreter as `python`, and the checkout."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HOME": os.environ.get("HOME", "/root"),
    }


def api_environment() -> dict[str, str]:
    """The environment that a process needs to call the server."""
    return {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_API_AUTH_STRING": AUTH}


@contextmanager
def prefect_server(folder: Path, **settings: str) -> Iterator[None]:
    """A server with its own database, which this process's clients call within the block; `settings` are Prefect's."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        **settings,
    }
    command = [sys.executable, "-m", "panelworks", "server", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        chosen = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: AUTH, PREFECT_HOME: folder / "prefect"}
        with temporary_settings(chosen):
            until(lambda: _answers(url) or server.poll() is not None, 90)
            assert server.poll() is None, (folder / "server.log").read_text()[-3000:]
            yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def asked(question: Callable[[PrefectClient], Coroutine[Any, Any, Answer]]) -> Answer:
    """Call the server and return its answer."""

    async def ask() -> Answer:
        async with get_client() as client:
            return await question(client)

    return asyncio.run(ask())


def make_pool(name: str, jobs: dict[str, Any], kind: str) -> None:
    """Create a work pool."""
    wanted = WorkPoolCreate(name=name, type=kind, base_job_template=jobs)
    asked(lambda client: client.create_work_pool(wanted))


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

    return asked(create)


def start(deployment: UUID, variables: dict[str, Any] | None = None, **parameters: Any) -> UUID:
    """Schedule a run; returns its id."""
    run = asked(
        lambda client: client.create_flow_run_from_deployment(
            deployment, parameters=parameters, job_variables=variables
        )
    )
    return run.id


def read(run_id: UUID) -> FlowRun:
    """The run now."""
    return asked(lambda client: client.read_flow_run(run_id))


def is_over(run_id: UUID) -> bool:
    run = read(run_id)
    return run.state is not None and run.state.is_final()


def ended(run_id: UUID) -> tuple[StateType | None, str | None]:
    """Wait for the end of a run; returns type and name of its final state."""
    until(lambda: is_over(run_id), 150)
    run = read(run_id)
    return run.state_type, run.state_name


def works(run_id: UUID) -> None:
    """Wait until a run is running."""
    until(lambda: read(run_id).state_type == StateType.RUNNING, 120)


class Worker:
    """A worker in a separate process, which can be stopped and started again."""

    def __init__(self, folder: Path, *command: str, **environment: str) -> None:
        self.log = folder / "worker.log"
        self._command = [sys.executable, "-m", *command]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def in_background(self) -> Self:
        """Start it like a script's `&`, which makes it ignore SIGINT."""
        self._command[:0] = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
        return self

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit code; None: it is running."""
        assert self._process
        return self._process.poll()

    def start(self) -> None:
        environment = {
            **interpreter(),
            **api_environment(),
            "PREFECT_HOME": str(PREFECT_HOME.value()),
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "3",
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
            **self._environment,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal; kill the worker if it does not end."""
        assert self._process
        self._process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(40)
        self._process.kill()
        self._process.wait()
