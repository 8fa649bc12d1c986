"""Of several gateways one acts, on a real Prefect server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from service.gateway.leadership import Leadership

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


async def until_one_leads(gateways: list[Leadership]) -> Leadership:
    for _ in range(600):
        leaders = [one for one in gateways if one.leads]
        assert len(leaders) <= 1
        if leaders:
            return leaders[0]
        await asyncio.sleep(0.05)
    raise AssertionError("no gateway became the leader")


@pytest.mark.usefixtures("prefect_server")
def test_one_gateway_leads_and_another_one_follows_it() -> None:
    async def scenario() -> None:
        gateways = [Leadership(LEASE_SECONDS) for _ in range(3)]
        async with running(gateways[0]), running(gateways[1]):
            for _ in range(60):  # three leases
                await asyncio.sleep(0.05)
                await until_one_leads(gateways)
        assert not any(one.leads for one in gateways)
        async with running(gateways[2]):  # released: no lease has to end
            assert await until_one_leads(gateways) is gateways[2]

    asyncio.run(scenario())


@pytest.mark.usefixtures("prefect_server")
def test_the_lease_of_a_gateway_that_died_ends(monkeypatch: pytest.MonkeyPatch) -> None:
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
            raise AssertionError("the other gateway did not take over")

    asyncio.run(scenario())
