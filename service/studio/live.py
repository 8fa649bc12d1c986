"""Live rows: HTML that is rendered once for all browsers that follow it, and sent to them when it changes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final

from fastapi.responses import StreamingResponse

from service.gateway.event_stream import EventStream

logger = logging.getLogger(__name__)
Key = str | None
"""What a browser follows, such as the queue of an owner."""
_MIN_UPDATE_SECONDS: Final = 0.15
"""Between two updates of the rows. All browsers that follow the same rows share them."""
_MAX_UPDATE_SECONDS: Final = 1.0
"""After which the rows are looked at without an event."""
_KEEP_ALIVE_SECONDS: Final = 15.0
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class _Feed:
    """The rows for the browsers that follow one key."""

    def __init__(self) -> None:
        self.html = ""
        self.version = 0
        self.changed = asyncio.Condition()
        self.followers = 0
        self.updating: asyncio.Task[None] | None = None


class LiveRows:
    """Rows by key. While somebody follows a key, its rows are rendered after each event."""

    def __init__(self, events: EventStream, render: Callable[[Key], Awaitable[str]]) -> None:
        """`render` returns the present rows of a key; it is called often and must be cheap when nothing has changed."""
        self._events = events
        self._render = render
        self._feeds: dict[Key, _Feed] = {}

    async def follow(self, key: Key) -> AsyncGenerator[str]:
        """Yield the rows now and whenever they change; an empty text if they have not changed for a while."""
        feed = self._feeds.setdefault(key, _Feed())
        feed.followers += 1
        seen = 0
        try:
            while True:
                if feed.updating is None or feed.updating.done():  # a client of Prefect may have cancelled it
                    feed.updating = asyncio.create_task(self._update(key, feed))
                async with feed.changed:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                            await feed.changed.wait_for(lambda: feed.version != seen)  # noqa: B023 - it is called in this turn
                before, seen = seen, feed.version
                yield feed.html if seen != before else ""
        finally:
            feed.followers -= 1
            if not feed.followers and feed.updating is not None:
                feed.updating.cancel()
                del self._feeds[key]

    async def _update(self, key: Key, feed: _Feed) -> None:
        while True:
            changes = self._events.changes
            try:
                html = await self._render(key)
            except Exception as error:  # noqa: BLE001 - whatever the cause, the next look may succeed
                logger.warning("live rows not shown: %s", type(error).__name__)
                html = feed.html
            if html != feed.html:
                async with feed.changed:
                    feed.html, feed.version = html, feed.version + 1
                    feed.changed.notify_all()
            await asyncio.sleep(_MIN_UPDATE_SECONDS)
            await self._events.wait_for_change(changes, _MAX_UPDATE_SECONDS)


def send_rows(rows: AsyncIterator[str], event: str | None = None) -> StreamingResponse:
    """Server-sent events with the rows. After each change, an event named `event` notifies other parts of the page."""
    changed = "" if event is None else f"event: {event}\ndata: changed\n\n"

    async def messages() -> AsyncIterator[str]:
        named = ""  # the first rows are those of the page
        async for html in rows:
            lines = "".join(f"data: {line}\n" for line in html.splitlines())
            yield f"{lines}\n{named}" if lines else ": no change\n\n"
            named = changed

    return StreamingResponse(messages(), media_type="text/event-stream", headers=_HEADERS)
