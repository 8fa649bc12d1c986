"""Requests that wait for the end of a job."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

from panelworks.domain.request import JobKey
from service.gateway.enhancement import MAX_WAITS, ended
from service.gateway.state import GatewayState


class FollowedHub:
    """A hub whose jobs end when it is told so; it counts who follows."""

    def __init__(self) -> None:
        self.waits: Counter[str | None] = Counter()
        self.following = 0
        self.followed = asyncio.Semaphore(0)
        self.over = asyncio.Event()

    async def follow(self, key: JobKey, after: int) -> AsyncIterator[dict[str, Any]]:
        self.following += 1
        self.followed.release()
        await self.over.wait()
        yield {"type": "end"}


class State:
    def __init__(self, hub: FollowedHub) -> None:
        self.hub = hub


def test_requests_beyond_the_limit_of_a_key_do_not_wait() -> None:
    """Before, 300 waiting requests of one key kept the health check from its answer for 24 s."""

    async def wait_for_many() -> None:
        hub = FollowedHub()
        state = cast(GatewayState, State(hub))
        waiting = [asyncio.create_task(ended(JobKey("bob", str(n)), state, 60)) for n in range(MAX_WAITS)]
        for _ in waiting:
            await hub.followed.acquire()
        assert not await ended(JobKey("bob", "one too many"), state, 60)
        assert hub.following == MAX_WAITS
        other = asyncio.create_task(ended(JobKey("alice", "1"), state, 60))
        await hub.followed.acquire()
        hub.over.set()
        assert all(await asyncio.gather(*waiting, other))
        assert not hub.waits, "nobody waits any more"

    asyncio.run(wait_for_many())


def test_a_wait_that_is_over_makes_room() -> None:
    async def wait_in_vain() -> None:
        hub = FollowedHub()
        state = cast(GatewayState, State(hub))
        for number in range(MAX_WAITS + 1):
            assert not await ended(JobKey("bob", str(number)), state, 0)
        assert hub.following == MAX_WAITS + 1

    asyncio.run(wait_in_vain())
