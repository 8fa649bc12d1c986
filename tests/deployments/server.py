"""A Prefect server and a worker of its pool as processes, and requests to them."""

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx
import prefect
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
    """Environment variables that an image sets: this interpreter is `python`, and the checkout can be imported."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "HOME": os.environ.get("HOME", "/root"),
    }


def api_environment() -> dict[str, str]:
    """Environment variables with which a process calls the server."""
    return {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_API_AUTH_STRING": AUTH}


def migrated_database() -> Path:
    """An SQLite database with Prefect's tables and no rows.

    A server starts in half the CPU time on a copy of it. All test processes share one file for each version
    of Prefect, in pytest's cache folder.
    """
    database = ROOT / ".pytest_cache" / f"prefect-{prefect.__version__}.db"
    database.parent.mkdir(exist_ok=True)
    with database.with_suffix(".lock").open("w") as lock, TemporaryDirectory() as home:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if database.exists():
            return database
        environment = {**interpreter(), "PREFECT_HOME": home}
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        copy = database.with_suffix(".new")
        copy.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(Path(home) / "prefect.db")) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        copy.rename(database)
    return database


@contextmanager
def prefect_server(folder: Path, **settings: str) -> Iterator[None]:
    """Run a server with its own database, which the Prefect client of this process calls until the end of the block.

    `settings` are Prefect's.
    """
    (folder / "prefect").mkdir(exist_ok=True)
    shutil.copyfile(migrated_database(), folder / "prefect" / "prefect.db")
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
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
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
