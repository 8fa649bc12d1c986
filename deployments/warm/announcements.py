"""Hears of runs as they are scheduled, so that the next poll is not waited for."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

logger = logging.getLogger(__name__)

_SCHEDULED: Final = "prefect.flow-run.Scheduled"
_AGAIN_SECONDS: Final = 5.0
"""Between two attempts to subscribe: polls go on meanwhile."""


@asynccontextmanager
async def at_each_scheduled_run(look: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Within the block, call `look` soon after a run was scheduled. A burst of them calls it a few times, not once each."""
    announcements = _Announcements()
    async with anyio.create_task_group() as group:
        group.start_soon(announcements.listen)
        group.start_soon(announcements.tell, look)
        yield
        group.cancel_scope.cancel()


class _Announcements:
    """One flag: something was scheduled since the last look."""

    def __init__(self) -> None:
        self._heard = anyio.Event()

    async def listen(self) -> None:
        wanted = EventFilter(event=EventNameFilter(name=[_SCHEDULED]))
        while True:
            try:
                async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as events:
                    async for _ in events:
                        self._heard.set()
            except Exception as error:  # noqa: BLE001 - whatever the socket raises, it is tried again
                logger.debug("the events of Prefect are away (%s)", type(error).__name__)
            await anyio.sleep(_AGAIN_SECONDS)

    async def tell(self, look: Callable[[], Awaitable[object]]) -> None:
        while True:
            await self._heard.wait()
            self._heard = anyio.Event()
            await look()
