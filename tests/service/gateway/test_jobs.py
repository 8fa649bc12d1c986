"""Pages as flow runs of a real server."""

import asyncio
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import SetStateStatus
from prefect.states import AwaitingRetry, Crashed, Pending, Running, Scheduled

from service.gateway.jobs import Jobs, status_of
from service.supervisor.crashed_runs import count_crashes


@flow(name="a-page")
def a_page() -> None:
    """Its states are set by the tests."""


@pytest.mark.parametrize(
    ("states", "crashes"),
    [
        ([Pending(), Running()], 0),
        ([Pending(), Running(), Crashed()], 1),
        ([Pending(), Crashed()], 1),
        ([Running(), Crashed(), Crashed()], 1),
        ([Running(), AwaitingRetry(), Running(), AwaitingRetry(), Running(), Crashed()], 1),
        ([Running(), Crashed(), AwaitingRetry(), Running(), AwaitingRetry(), Running(), Crashed()], 2),
    ],
    ids=["none", "one", "before the start", "reported twice", "requeued twice", "requeued and crashed"],
)
@pytest.mark.usefixtures("prefect_server")
def test_crashes_are_counted_and_preemptions_are_not(states: list[State[Any]], crashes: int) -> None:
    async def count() -> int:
        async with get_client() as client:
            run = await client.create_flow_run(a_page, state=Pending())
            for state in states:
                await client.set_flow_run_state(run.id, state, force=True)
            run = await client.read_flow_run(run.id)
            is_unfinished = status_of(run) in ("queued", "running")
            assert is_unfinished, "a page that crashed just now is not reported as failed"
            return count_crashes(await client.read_flow_run_states(run.id))

    assert asyncio.run(count()) == crashes


@pytest.mark.parametrize("picked_up", [False, True])
@pytest.mark.usefixtures("prefect_server")
def test_a_cancelled_run_does_not_start(picked_up: bool) -> None:
    """A run that a worker picks up between reading and cancelling it does not change from Cancelled to Running."""

    async def cancel() -> State[Any] | None:
        async with get_client() as client, Jobs() as jobs:
            created = await client.create_flow_run(a_page, state=Scheduled())
            run = await client.read_flow_run(created.id)
            if picked_up:
                await client.set_flow_run_state(run.id, Pending())
            await jobs.cancel(run)
            state = (await client.read_flow_run(run.id)).state
            proposed: State[Any] = Running() if picked_up else Pending()
            answer = await client.set_flow_run_state(run.id, proposed)
            assert answer.status is not SetStateStatus.ACCEPT
            return state

    state = asyncio.run(cancel())
    assert state is not None and state.type == ("CANCELLING" if picked_up else "CANCELLED")
