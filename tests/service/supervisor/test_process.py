"""Supervisors as processes, on a real Prefect server: one acts, another takes over, nothing is done twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Crashed, Pending, Running

from deployments.names import POOL
from panelworks.domain.request import Origin, PageRequest
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from service.supervisor.leadership import Leadership, LeaseStatus, read_lease_status
from tests.deployments.server import api_environment, call_prefect
from tests.panelworks.page.test_callbacks import RESULT, receiver
from tests.servers import free_port, serving, until

LEASE_SECONDS = 4.0
PROGRAM = f"""
import sys
from datetime import timedelta
from service.supervisor import crashed_runs
from service.supervisor.process import supervise
crashed_runs._MIN_CRASH_AGE = timedelta(0)
supervise(int(sys.argv[1]), lease_seconds={LEASE_SECONDS})
"""
"""`panelworks supervise` with a lease that a test can wait for."""


class Supervisor:
    def __init__(self, folder: Path, number: int) -> None:
        self.port, self.log = free_port(), folder / f"supervisor-{number}.log"
        environment = {
            **os.environ,
            **api_environment(),
            "PANELWORKS_ALLOW_HTTP": "true",
            "PANELWORKS_ALLOW_PRIVATE_ADDRESSES": "true",
            "PANELWORKS_CALLBACK_SECRET": "sesame",
            "LOG_LEVEL": "INFO",
        }
        command = [sys.executable, "-c", PROGRAM, str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def health(self) -> dict[str, Any]:
        try:
            body: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5).json()
        except httpx.HTTPError:
            return {}
        return body

    @property
    def leads(self) -> bool:
        return bool(self.health().get("leads"))

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def supervisors(folder: Path, count: int) -> Iterator[list[Supervisor]]:
    started = [Supervisor(folder, number) for number in range(count)]
    try:
        yield started
    finally:
        for one in started:
            one.process.kill()
            one.process.wait()


@flow(name="enhance-page")
def a_page() -> None:
    """Its states are set by the tests."""


async def crash(client: PrefectClient) -> UUID:
    """A run of our pool that crashed."""
    with suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    deployment = await client.create_deployment(
        await client.create_flow(a_page), "a-page", work_pool_name=POOL
    )
    run = await client.create_flow_run_from_deployment(deployment, parameters={"job_id": "crashed"})
    states: tuple[State[Any], ...] = (Pending(), Running(), Crashed())
    for state in states:
        await client.set_flow_run_state(run.id, state, force=True)
    return run.id


def states_of(run_id: UUID) -> list[str]:
    states: list[State[Any]] = call_prefect(lambda client: client.read_flow_run_states(run_id))
    return [str(state.name) for state in sorted(states, key=lambda state: state.timestamp)]


def status() -> LeaseStatus:
    return call_prefect(read_lease_status)


def delivered() -> int:
    """Delivered callbacks that the lease counts; it continues the count of supervisors of other tests."""
    counters = status().callbacks
    return counters.delivered if counters is not None else 0


@pytest.mark.usefixtures("prefect_server")
def test_another_supervisor_continues_the_work_of_one_that_died(settings: Settings, tmp_path: Path) -> None:
    engine = Engine(settings)

    def call_back(job_id: str) -> None:
        request = PageRequest(source="data:,x", out="out", job_id=job_id, origin=Origin(callback=address))
        engine.callbacks.record(request, RESULT, "run")

    handler, received = receiver(204)
    with ExitStack() as stack:
        address = stack.enter_context(serving(handler))
        both = stack.enter_context(supervisors(tmp_path, 2))
        until(lambda: all(one.health().get("status") == "healthy" for one in both))
        until(lambda: any(one.leads for one in both))
        (leader,), (other,) = ([one for one in both if one.leads is leads] for leads in (True, False))

        before = delivered()
        call_back("first")
        runs = [call_prefect(crash)]
        until(lambda: "AwaitingRetry" in states_of(runs[0]) and len(received) == 1)
        until(lambda: delivered() == before + 1)
        assert not other.leads

        leader.end(signal.SIGKILL)
        call_back("second")
        runs.append(call_prefect(crash))
        until(lambda: other.leads and "AwaitingRetry" in states_of(runs[1]) and len(received) == 2)
        until(lambda: delivered() == before + 2)

        for run in runs:
            assert states_of(run).count("AwaitingRetry") == 1
        assert other.end(signal.SIGTERM) == 0
        assert not status().is_held
        assert "supervisor stopped" in other.log.read_text()
    assert len(received) == 2


@pytest.mark.usefixtures("prefect_server")
def test_a_stopped_supervisor_releases_the_lease(tmp_path: Path) -> None:
    with supervisors(tmp_path, 1) as (one,):
        until(lambda: one.leads)
        assert status().is_held
        assert one.end(signal.SIGINT) == 0
        assert not status().is_held


def test_a_supervisor_whose_server_does_not_answer_is_unhealthy() -> None:
    leadership = Leadership(0.1)
    assert leadership.is_connected
    until(lambda: not leadership.is_connected, 5)
