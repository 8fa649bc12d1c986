"""A `runpod` pool from end to end: server, worker, RunPod's API and pods are processes of their own."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.states import Cancelling
from prefect.types.entrypoint import EntrypointType
from pydantic import SecretStr

from blocks import RunPodCredentials
from deployments.pools import template
from tests.conftest import free_port
from tests.deployments.runpod.conftest import pod_environment
from tests.deployments.runpod.standin import KEY, StandIn
from tests.deployments.runpod.work import work
from tests.live.stack import until

POOL = "rented"


class Rented:
    """The server, the account and the worker; and what tests ask of them."""

    def __init__(self, folder: Path, account: StandIn) -> None:
        self.account = account
        self.folder = folder
        self.deployment: UUID | None = None
        self._worker: subprocess.Popen[bytes] | None = None

    async def provide(self) -> None:
        """The pool, its credentials and a deployment."""
        keys = RunPodCredentials(
            api_key=SecretStr(KEY), url=f"{self.account.url}/v2", spot_url=f"{self.account.url}/v1"
        )
        block = await keys.save("account")
        jobs = template("runpod")
        choices = jobs["variables"]["properties"]
        choices["credentials"]["default"] = {"$ref": {"block_document_id": str(block)}}
        choices["poll_seconds"]["default"] = 1
        async with get_client() as client:
            await client.create_work_pool(WorkPoolCreate(name=POOL, type="runpod", base_job_template=jobs))
            deployment = await work.ato_deployment(
                "rented", work_pool_name=POOL, entrypoint_type=EntrypointType.MODULE_PATH
            )
            flow_id = await client.create_flow(work)
            self.deployment = await client.create_deployment(
                flow_id,
                "rented",
                entrypoint=deployment.entrypoint,
                pull_steps=[{"deployments.checkout.enter": {}}],
                work_pool_name=POOL,
            )

    def start_worker(self) -> None:
        environment = {
            **pod_environment(),
            "PREFECT_API_URL": str(PREFECT_API_URL.value()),
            "PREFECT_HOME": str(PREFECT_HOME.value()),
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "3",
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        }
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "runpod"]
        with (self.folder / "worker.log").open("ab") as log:
            self._worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop_worker(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._worker
        self._worker.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._worker.wait(20)
        self._worker.kill()
        self._worker.wait()

    def start(self, variables: dict[str, Any] | None = None, **parameters: Any) -> UUID:
        """Schedule a run."""
        assert self.deployment

        async def create(client: PrefectClient) -> FlowRun:
            assert self.deployment
            return await client.create_flow_run_from_deployment(
                self.deployment, parameters=parameters, job_variables=variables
            )

        run: FlowRun = asked(create)
        return run.id

    def run(self, run_id: UUID) -> FlowRun:
        run: FlowRun = asked(lambda client: client.read_flow_run(run_id))
        return run

    def ended(self, run_id: UUID) -> tuple[StateType | None, str | None]:
        """Type and name of the last state of a run, once its pod is gone too."""
        until(lambda: final(self.run(run_id)), 150)
        until(lambda: self.account.of_run(str(run_id)) is None, 60)
        run = self.run(run_id)
        return run.state_type, run.state_name

    def works(self, run_id: UUID) -> None:
        """Wait until a run is running in its pod."""
        until(lambda: self.run(run_id).state_type == StateType.RUNNING, 120)


def final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def asked(question: Any) -> Any:
    async def ask() -> Any:
        async with get_client() as client:
            return await question(client)

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def rented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rented]:
    folder, port = tmp_path_factory.mktemp("rented"), free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    apart = temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: folder / "prefect"})
    with apart, StandIn({**pod_environment(), "PREFECT_HOME": str(folder / "pods")}) as account:
        here = Rented(folder, account)
        try:
            until(lambda: _listens(url), 90)
            asyncio.run(here.provide())
            here.start_worker()
            yield here
            here.stop_worker()
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def _listens(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def test_runs_end_as_they_end_and_no_pod_is_left(rented: Rented) -> None:
    runs = {
        "well": rented.start(),
        "badly": rented.start(ends="badly"),
        "killed": rented.start(ends="killed"),
    }
    assert {ends: rented.ended(run)[0] for ends, run in runs.items()} == {
        "well": StateType.COMPLETED,
        "badly": StateType.FAILED,
        "killed": StateType.CRASHED,
    }
    assert rented.account.refused == [], "every body was as published"
    assert len(rented.account.created) == 3


def test_the_pool_is_checked_as_any_other(rented: Rented) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "pools", "check", POOL, "--json"],
        env={**pod_environment(), "PREFECT_API_URL": str(PREFECT_API_URL.value())}, capture_output=True, text=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["deployment"] for one in found] == [None, "rented"], done.stderr
    assert done.returncode == 0 and not any(one["problems"] for one in found)


def test_a_cancelled_run_takes_its_pod_along(rented: Rented) -> None:
    run = rented.start(seconds=300)
    rented.works(run)
    asked(lambda client: client.set_flow_run_state(run, Cancelling()))
    assert rented.ended(run)[0] == StateType.CANCELLED


def test_a_container_that_dies_whole_is_a_crash(rented: Rented) -> None:
    """RunPod starts it again and says nothing: the second start tells."""
    run = rented.start(seconds=300)
    rented.works(run)
    found = rented.account.of_run(str(run))
    assert found
    found[1].kill()
    assert rented.ended(run)[0] == StateType.CRASHED
    assert found[1].starts == 2


def test_a_run_that_takes_too_long_is_ended(rented: Rented) -> None:
    run = rented.start({"max_runtime_minutes": 0.3}, seconds=300)
    assert rented.ended(run) == (StateType.FAILED, "TimedOut")


def test_a_minute_without_runpods_api_costs_no_run_and_leaves_no_pod(rented: Rented) -> None:
    run = rented.start(seconds=5)
    rented.works(run)
    rented.account.away.set()
    threading.Timer(60, rented.account.away.clear).start()
    until(lambda: final(rented.run(run)), 60)
    assert rented.account.away.is_set() and rented.account.of_run(str(run)), "it ended while RunPod was away"
    assert rented.ended(run)[0] == StateType.COMPLETED


def test_a_spot_pod_that_is_taken_away_hands_its_run_back(rented: Rented, tmp_path: Path) -> None:
    note = tmp_path / "pods"
    run = rented.start({"spot": True}, seconds=12, note=str(note))
    until(note.exists, 120)
    first = note.read_text().strip()
    rented.account.preempt(first)
    assert rented.ended(run)[0] == StateType.COMPLETED
    assert len(set(note.read_text().split())) == 2, "it began again in another pod"
    assert rented.account.pods == {}


@pytest.mark.parametrize("alone", [False, True], ids=["ended-by-the-next-worker", "ends-itself"])
def test_a_pod_outlives_its_worker_but_not_its_run(rented: Rented, alone: bool) -> None:
    rented.account.pods_may_end_themselves = alone
    run = rented.start(seconds=5)
    rented.works(run)
    rented.stop_worker(signal.SIGKILL)
    until(lambda: final(rented.run(run)), 60)
    if not alone:
        time.sleep(3)
        assert rented.account.of_run(str(run)), "nobody is there to end it"
        rented.start_worker()
    assert rented.ended(run)[0] == StateType.COMPLETED
    if alone:
        rented.start_worker()
