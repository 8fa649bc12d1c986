"""Runs that a worker left behind when it died, and which crashed runs are restarted."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.states import Crashed, Pending, Running

from deployments.checkout import pools
from service.supervisor import crashed_runs
from service.supervisor.crashed_runs import read_crashed, report_dead_runs
from tests.deployments.server import call_prefect, read

POOL = pools()[1]
"""A pool that no other test uses: runs of other tests are not reported."""
WORKER = "panelworks-box"
FAR_FUTURE = datetime.now(UTC) + timedelta(hours=1)
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@flow(name="enhance-page")
def a_page() -> None:
    """Its states are set by the tests."""


@flow(name="enhance-book")
def a_book() -> None:
    """As above."""


@flow(name="backfill")
def an_archive() -> None:
    """As above."""


@flow(name="compare-models")
def a_comparison() -> None:
    """As above."""


@pytest.fixture(scope="module", autouse=True)
def pool(prefect_server: None) -> Iterator[None]:
    """The pool, with another worker that is alive."""

    async def create(client: PrefectClient) -> None:
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        await client.send_worker_heartbeat(POOL, "panelworks-elsewhere")

    call_prefect(create)
    yield
    call_prefect(lambda client: client.delete_work_pool(POOL))


async def _create(
    client: PrefectClient, flow: Flow[..., Any], states: list[State[Any]], pid: int | None, worker: str | None,
    tags: tuple[str, ...],
) -> UUID:  # fmt: skip
    deployment = await client.create_deployment(
        await client.create_flow(flow), flow.name, work_pool_name=POOL
    )
    run = await client.create_flow_run_from_deployment(deployment, tags=tags)
    for state in states:
        await client.set_flow_run_state(run.id, state, force=True)
    if pid is not None:
        await client.update_flow_run(run.id, infrastructure_pid=str(pid))
    if worker is not None:
        await client.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
    return run.id


def make_run(
    *states: State[Any], pid: int | None = None, worker: str | None = WORKER, flow: Flow[..., Any] = a_page,
    tags: tuple[str, ...] = (),
) -> UUID:  # fmt: skip
    return call_prefect(lambda client: _create(client, flow, list(states), pid, worker, tags))


def dead_pid() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def state_after_report(run: UUID, died: datetime = FAR_FUTURE) -> str | None:
    asyncio.run(report_dead_runs(WORKER, POOL, died))
    return read(run).state_name


def test_a_run_whose_process_ended_has_crashed() -> None:
    assert state_after_report(make_run(Pending(), Running(), pid=dead_pid())) == "Crashed"


def test_a_run_whose_process_is_alive_goes_on() -> None:
    assert state_after_report(make_run(Pending(), Running(), pid=os.getpid())) == "Running"


def test_a_process_that_began_after_the_run_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted container counts its processes from 1 again."""
    monkeypatch.setattr(crashed_runs, "_CLOCK_ERROR", timedelta(seconds=1))
    run = make_run(Pending(), Running())
    time.sleep(2.5)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as later:
        call_prefect(lambda client: client.update_flow_run(run, infrastructure_pid=str(later.pid)))
        assert state_after_report(run) == "Crashed"
        later.communicate(b"\n")


def test_a_run_of_another_worker_is_left_alone() -> None:
    run = make_run(Pending(), Running(), pid=dead_pid(), worker="panelworks-elsewhere")
    assert state_after_report(run) == "Running"


def test_a_run_without_a_worker_may_belong_to_the_other_one() -> None:
    assert state_after_report(make_run(Pending(), Running(), pid=dead_pid(), worker=None)) == "Running"


@pytest.mark.parametrize(("died", "state"), [(FAR_FUTURE, "AwaitingRetry"), (LONG_AGO, "Pending")])
def test_a_run_that_had_no_process_yet_waits_again(died: datetime, state: str) -> None:
    assert state_after_report(make_run(Pending()), died) == state


@pytest.mark.parametrize(
    ("flow", "tags", "restarted"),
    [
        (a_page, (), True),
        (a_book, (), True),
        (a_book, ("backfill", "backfill:a-run"), False),
        (an_archive, ("panelworks", "backfill"), True),
        (a_comparison, (), False),
    ],
    ids=["page", "book", "book of a backfill", "backfill", "comparison"],
)
def test_which_crashed_runs_are_restarted(
    flow: Flow[..., Any], tags: tuple[str, ...], restarted: bool
) -> None:
    """A backfill submits its crashed books itself."""
    run = make_run(Pending(), Running(), Crashed(), flow=flow, tags=tags)
    assert (run in {one.id for one in call_prefect(read_crashed)}) is restarted
