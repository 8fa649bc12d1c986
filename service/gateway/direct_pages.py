"""Pages processed inside the gateway, by plain calls: for callers who wait for one page at a time."""

import asyncio
from typing import Final

from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.page.direct import deliver_directly
from panelworks.page.engine import Engine

_AT_ONCE: Final = 2
"""Pages computed at the same time; a network uses all cores by itself."""


class DirectPages:
    """Computes pages in threads. The same page, asked for twice at once, is computed once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._under_way: dict[str, asyncio.Task[PageResult]] = {}

    async def result(self, request: PageRequest, key: str, deadline: float | None) -> tuple[PageResult, bool]:
        """The result of a page, and whether it was computed for another caller at the same time.

        A page that misses its deadline is finished all the same: whoever asks again finds it in the cache.

        Raises:
            TimeoutError: it took longer than `deadline` seconds.
            PanelworksError: the page could not be delivered.
        """
        task = self._under_way.get(key)
        shared = task is not None
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._compute(request))
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.wait_for(asyncio.shield(task), deadline), shared

    async def _compute(self, request: PageRequest) -> PageResult:
        async with self._slots:
            return await asyncio.to_thread(deliver_directly, request, self._engine)
