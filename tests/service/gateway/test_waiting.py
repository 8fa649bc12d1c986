"""Requests that wait for the end of a job."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

from panelworks.domain.request import JobKey
from service.gateway.enhancement import MAX_WAITS, wait_for_end
from service.gateway.state import GatewayState


class FollowedEventStream:
    """An event stream whose jobs end on request; it counts its followers."""

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
    def __init__(self, event_stream: FollowedEventStream) -> None:
        self.event_stream = event_stream


def test_requests_beyond_the_limit_of_a_key_do_not_wait() -> None:
    """Before, 300 waiting requests of one key kept the health check from its answer for 24 s."""

    async def wait_for_many() -> None:
        event_stream = FollowedEventStream()
        state = cast(GatewayState, State(event_stream))
        waiting = [
            asyncio.create_task(wait_for_end(JobKey("bob", str(n)), state, 60)) for n in range(MAX_WAITS)
        ]
        for _ in waiting:
            await event_stream.followed.acquire()
        assert not await wait_for_end(JobKey("bob", "one too many"), state, 60)
        assert event_stream.following == MAX_WAITS
        other = asyncio.create_task(wait_for_end(JobKey("alice", "1"), state, 60))
        await event_stream.followed.acquire()
        event_stream.over.set()
        assert all(await asyncio.gather(*waiting, other))
        assert not event_stream.waits, "nobody waits any more"

    asyncio.run(wait_for_many())


def test_a_wait_that_is_over_makes_room() -> None:
    async def wait_in_vain() -> None:
        event_stream = FollowedEventStream()
        state = cast(GatewayState, State(event_stream))
        for number in range(MAX_WAITS + 1):
            assert not await wait_for_end(JobKey("bob", str(number)), state, 0)
        assert event_stream.following == MAX_WAITS + 1

    asyncio.run(wait_in_vain())
