"""Live rows: rendered once for all browsers, after an event, and sent only if they have changed."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, TypeVar, cast

from service.gateway.event_stream import EventStream
from service.studio.live import LiveRows, send_rows

WAIT_SECONDS = 30
T = TypeVar("T")


def run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine where Playwright has no loop: its own runs in the main thread until the last test of this folder."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class Events:
    """An event stream that a test advances."""

    def __init__(self) -> None:
        self.changes = 0
        self._changed = asyncio.Event()

    def advance(self) -> None:
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, since: int, seconds: float) -> None:
        if self.changes == since:
            await self._changed.wait()


class Source:
    """Rows that a test changes."""

    def __init__(self) -> None:
        self.rows = "first"
        self.rendered = 0

    async def render(self, key: str | None) -> str:
        self.rendered += 1
        if self.rows == "broken":
            raise ConnectionError
        return f"{key}: {self.rows}"


def test_followers_share_the_rows_and_see_each_change() -> None:
    async def follow() -> None:
        events, source = Events(), Source()
        live = LiveRows(cast(EventStream, events), source.render)
        async with aclosing(live.follow("a")) as one, aclosing(live.follow("a")) as other:
            async with asyncio.timeout(WAIT_SECONDS):
                assert [await anext(one), await anext(other)] == ["a: first", "a: first"]
                source.rows = "broken"
                events.advance()
                await asyncio.sleep(0.3)
                source.rows = "second"
                events.advance()
                assert [await anext(one), await anext(other)] == ["a: second", "a: second"]
        assert source.rendered == 3, "once for both, and once more after each event"
        async with aclosing(live.follow("a")) as again:
            async with asyncio.timeout(WAIT_SECONDS):
                assert await anext(again) == "a: second"

    run_in_thread(follow())


def test_messages_are_events_and_later_ones_notify_the_page() -> None:
    async def changes() -> AsyncIterator[str]:
        for html in ("<p>\n</p>", "", "<b>"):
            yield html

    async def read() -> list[str]:
        response = send_rows(changes(), "books-changed")
        return [str(part) async for part in response.body_iterator]

    assert run_in_thread(read()) == [
        "data: <p>\ndata: </p>\n\n",
        ": no change\n\n",
        "data: <b>\n\nevent: books-changed\ndata: changed\n\n",
    ]
