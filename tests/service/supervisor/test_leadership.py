"""Of several supervisors one leads, on a real Prefect server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from prefect.client.orchestration import get_client

from service.supervisor.leadership import CallbackCounters, Leadership, LeaseStatus, read_lease_status

LEASE_SECONDS = 1.0


@asynccontextmanager
async def running(leadership: Leadership) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(leadership.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_one_leads(supervisors: list[Leadership]) -> Leadership:
    for _ in range(600):
        leaders = [one for one in supervisors if one.leads]
        assert len(leaders) <= 1
        if leaders:
            return leaders[0]
        await asyncio.sleep(0.05)
    raise AssertionError("no supervisor became the leader")


@pytest.mark.usefixtures("prefect_server")
def test_one_supervisor_leads_and_another_one_follows_it() -> None:
    async def scenario() -> None:
        supervisors = [Leadership(LEASE_SECONDS) for _ in range(3)]
        async with running(supervisors[0]), running(supervisors[1]):
            for _ in range(60):  # three leases
                await asyncio.sleep(0.05)
                await until_one_leads(supervisors)
        assert not any(one.leads for one in supervisors)
        async with running(supervisors[2]):  # released: no lease has to end
            assert await until_one_leads(supervisors) is supervisors[2]

    asyncio.run(scenario())


@pytest.mark.usefixtures("prefect_server")
def test_the_lease_of_a_supervisor_that_died_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        dead, other = Leadership(LEASE_SECONDS), Leadership(LEASE_SECONDS)
        monkeypatch.setattr(dead, "_release", lambda _: asyncio.sleep(0))
        async with running(dead):
            await until_one_leads([dead])
        async with running(other):
            assert not other.leads
            for _ in range(600):
                await asyncio.sleep(0.05)
                if (await until_one_leads([dead, other])) is other:
                    return
            raise AssertionError("the other supervisor did not take over")

    asyncio.run(scenario())


@pytest.mark.usefixtures("prefect_server")
def test_a_successor_continues_the_counters_and_others_see_them() -> None:
    async def status() -> LeaseStatus:
        async with get_client() as client:
            return await read_lease_status(client)

    async def scenario() -> None:
        first, second = Leadership(LEASE_SECONDS), Leadership(LEASE_SECONDS)
        async with running(first):
            await until_one_leads([first])
            first.callbacks = CallbackCounters(delivered=7, pending=2)
        assert await status() == LeaseStatus(is_held=False, callbacks=first.callbacks)
        async with running(second):
            await until_one_leads([second])
            assert second.callbacks == first.callbacks
            assert await status() == LeaseStatus(is_held=True, callbacks=first.callbacks)

    asyncio.run(scenario())


@pytest.mark.usefixtures("prefect_server")
def test_of_many_supervisors_one_takes_over_from_one_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the second one to take over deleted the lease of the first, and both led for a moment."""

    async def scenario() -> None:
        dead, others = Leadership(LEASE_SECONDS), [Leadership(LEASE_SECONDS) for _ in range(4)]
        monkeypatch.setattr(dead, "_release", lambda _: asyncio.sleep(0))
        async with running(dead):
            await until_one_leads([dead])
        async with AsyncExitStack() as stack:
            for other in others:
                await stack.enter_async_context(running(other))
            await until_one_leads([dead, *others])
            for _ in range(20):
                await asyncio.sleep(0.05)
                await until_one_leads(others)

    asyncio.run(scenario())
