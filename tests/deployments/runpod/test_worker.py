"""A `runpod` pool from end to end: server, worker, RunPod's API and pods are separate processes."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling
from pydantic import SecretStr

from blocks import RunPodCredentials
from deployments.pools import template
from tests.deployments import server
from tests.deployments.runpod.standin import KEY, StandIn
from tests.deployments.runpod.work import work
from tests.deployments.server import (
    Worker,
    api_environment,
    call_prefect,
    has_ended,
    interpreter,
    wait_until_running,
)
from tests.servers import until

POOL = "rented"
POLL_SECONDS = 1


async def saved(keys: RunPodCredentials) -> UUID:
    """Store a block; returns the id of its document."""
    stored: UUID = await keys.save("account")
    return stored


class Rented:
    """The account and the worker of the pool."""

    def __init__(self, folder: Path, account: StandIn) -> None:
        self.account = account
        self.worker = Worker(folder, "prefect", "worker", "start", "--pool", POOL, "--type", "runpod")
        keys = RunPodCredentials(
            api_key=SecretStr(KEY), url=f"{account.url}/v2", spot_url=f"{account.url}/v1"
        )
        jobs = template("runpod")
        choices = jobs["variables"]["properties"]
        block = asyncio.run(saved(keys))
        choices["credentials"]["default"] = {"$ref": {"block_document_id": str(block)}}
        choices["poll_seconds"]["default"] = POLL_SECONDS
        server.make_pool(POOL, jobs, "runpod")
        self._deployment = server.deploy(work, POOL)

    def start(self, variables: dict[str, Any] | None = None, **parameters: Any) -> UUID:
        return server.start(self._deployment, variables, **parameters)

    def ended(self, run_id: UUID) -> tuple[StateType | None, str | None]:
        """Type and name of the final state of a run, after its pod has ended too."""
        last = server.wait_for_end(run_id)
        until(lambda: self.account.of_run(str(run_id)) is None, 60)
        return last


@pytest.fixture(scope="module")
def rented(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Rented]:
    folder = tmp_path_factory.mktemp("rented")
    pods = {**interpreter(), "PREFECT_HOME": str(folder / "pods")}
    with StandIn(pods) as account:
        here = Rented(folder, account)
        here.worker.start()
        yield here
        here.worker.stop()


def test_final_states_are_those_of_the_runs_and_no_pod_is_left(rented: Rented) -> None:
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


def test_the_pool_passes_its_check(rented: Rented) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "panelworks", "pools", "check", POOL, "--json"],
        env={**interpreter(), **api_environment()}, capture_output=True, text=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["deployment"] for one in found] == [None, "pod-work"], done.stderr
    assert done.returncode == 0 and not any(one["problems"] for one in found)


def test_a_cancelled_run_ends_its_pod(rented: Rented) -> None:
    run = rented.start(seconds=300)
    wait_until_running(run)
    call_prefect(lambda client: client.set_flow_run_state(run, Cancelling()))
    assert rented.ended(run)[0] == StateType.CANCELLED


def test_a_killed_container_is_a_crash(rented: Rented) -> None:
    """RunPod restarts it and reports nothing: the second start reports the crash, or the worker that finds it stopped."""
    run = rented.start(seconds=300)
    wait_until_running(run)
    found = rented.account.of_run(str(run))
    assert found
    found[1].kill()
    assert rented.ended(run)[0] == StateType.CRASHED
    assert found[1].starts in (1, 2)


def test_a_run_that_is_overdue_before_it_starts_is_ended(rented: Rented) -> None:
    run = rented.start({"max_runtime_minutes": 0.02}, seconds=300)
    rented.ended(run)
    until(lambda: server.read(run).state_name == "TimedOut", 30)


def test_an_overdue_run_is_ended_and_stays_timed_out(rented: Rented, tmp_path: Path) -> None:
    note = tmp_path / "notes"
    run = rented.start({"max_runtime_minutes": 0.75}, ends="reporting", note=str(note))
    until(lambda: note.exists() and "crash reported" in note.read_text(), 150)
    rented.ended(run)
    until(lambda: server.read(run).state_name == "TimedOut", 30)


def test_an_outage_of_runpods_api_costs_no_run_and_leaves_no_pod(rented: Rented) -> None:
    run = rented.start(seconds=5)
    wait_until_running(run)
    rented.account.away.set()
    try:
        until(lambda: has_ended(run), 60)
        time.sleep(10 * POLL_SECONDS)  # the worker asks ten times in vain
        assert rented.account.of_run(str(run)), "the pod outlives its run while the API is unavailable"
    finally:
        rented.account.away.clear()
    assert rented.ended(run)[0] == StateType.COMPLETED


def test_the_run_of_a_preempted_spot_pod_is_scheduled_again(rented: Rented, tmp_path: Path) -> None:
    note = tmp_path / "pods"
    run = rented.start({"spot": True}, seconds=6, note=str(note))
    until(note.exists, 120)
    rented.account.preempt(note.read_text().strip())
    assert rented.ended(run)[0] == StateType.COMPLETED
    assert len(set(note.read_text().split())) == 2, "it began again in another pod"
    assert rented.account.pods == {}


@pytest.mark.parametrize("alone", [False, True], ids=["ended-by-the-next-worker", "ends-itself"])
def test_a_pod_outlives_its_worker_but_not_its_run(rented: Rented, alone: bool) -> None:
    rented.account.pods_may_end_themselves = alone
    run = rented.start(seconds=5)
    wait_until_running(run)
    rented.worker.stop(signal.SIGKILL)
    until(lambda: has_ended(run), 60)
    if not alone:
        time.sleep(3)
        assert rented.account.of_run(str(run)), "nobody is there to end it"
        rented.worker.start()
    assert rented.ended(run)[0] == StateType.COMPLETED
    if alone:
        rented.worker.start()
