"""The delivery of callbacks by the supervisor that leads: several at a time, fewer to one receiver or for one key.

A run records its callback in the working store and names it in the event that ends its page, so that the leader sends
it at once. A listing of the pending callbacks finds those whose event was missed, and those of a leader that died.
Of a callback that waits, only its receiver, key and time are in memory.
"""

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

from orchestration.events import APPROVED, CALLBACK_ID, ENHANCED, FAILED, REJECTED
from panelworks.errors import PanelworksError, Rejected, as_unexpected_error
from panelworks.page.callbacks import ATTEMPT_LEASE_SECONDS, BATCH_ENDED, Callbacks
from panelworks.settings import Settings
from service.supervisor.leadership import Leadership

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

MAX_SENDING: Final = 16
"""Callbacks that are sent at the same time; as many records are in memory, of 4 MiB at most."""
MAX_SENDING_PER_KEY: Final = 8
MAX_SENDING_PER_HOST: Final = 2
MAX_KNOWN: Final = 20_000
"""Pending callbacks in memory, of some 300 bytes each. Further ones wait in the store."""
_SCAN_SECONDS: Final = 30.0
"""Between two listings: 2,880 a day, which cost about one cent on S3."""
_LEADER_CHECK_SECONDS: Final = 2.0
"""Between two checks whether this supervisor leads."""
_NEVER: Final = float("inf")
_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass
class _Known:
    """A pending callback."""

    due: float = 0.0
    """In seconds since 1970."""
    host: str | None = None
    """None until the record was read."""
    owner: str | None = None


class CallbackDelivery:
    """Sends pending callbacks while the supervisor runs and leads."""

    def __init__(self, callbacks: Callbacks, settings: Settings, leadership: Leadership) -> None:
        """The leadership's counters record each attempt."""
        self._callbacks = callbacks
        self._settings = settings
        self._leadership = leadership
        self._known: dict[str, _Known] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._next_scan = 0.0
        self._changed = asyncio.Event()
        # Threads of its own: receivers that do not respond must not occupy those of the other loops.
        self._threads = ThreadPoolExecutor(MAX_SENDING, "panelworks-callback")

    @property
    def has_listed(self) -> bool:
        """Has this supervisor, as the leader, listed the pending callbacks?"""
        return self._next_scan > 0

    def expect(self, callback_id: str) -> None:
        """Send a callback that was just recorded at once, if this supervisor leads."""
        if _ID.fullmatch(callback_id) and len(self._known) < MAX_KNOWN:
            self._known.setdefault(callback_id, _Known())
            self._changed.set()

    async def run(self) -> None:
        """Send what is due, repeatedly. An attempt that is running when this is cancelled ends in its thread and records its outcome."""
        try:
            while True:
                self._changed.clear()
                seconds = _LEADER_CHECK_SECONDS
                try:
                    seconds = await self._start_work()
                except Exception as error:  # noqa: BLE001 - whatever the cause, the next attempt may succeed
                    logger.warning("pending callbacks not read: %s", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):  # `wait_for` of Python 3.11 may drop a cancellation
                        await self._changed.wait()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _start_work(self) -> float:
        """Start the attempts that are due; returns the seconds until the next check."""
        if not self._leadership.leads:
            self._known.clear()
            self._next_scan = 0.0
            return _LEADER_CHECK_SECONDS
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + _SCAN_SECONDS
            for callback_id in await asyncio.to_thread(self._list_unknown):
                self._known.setdefault(callback_id, _Known())
        self._count(pending=len(self._known))
        return min(self._start_due(), _LEADER_CHECK_SECONDS)

    def _count(self, **figures: int) -> None:
        self._leadership.callbacks = self._leadership.callbacks.model_copy(update=figures)

    def _list_unknown(self) -> list[str]:
        """Pending callbacks that are not known yet, as many as fit into memory."""
        new = (one for one in self._callbacks.pending() if one not in self._known and _ID.fullmatch(one))
        return list(islice(new, MAX_KNOWN - len(self._known)))

    def _start_due(self) -> float:
        """Start attempts within the limits, the longest due first; returns the seconds until the next one is due."""
        working = [self._known[one] for one in self._running if one in self._known]
        hosts = Counter(one.host for one in working if one.host is not None)
        owners = Counter(one.owner for one in working if one.host is not None)
        now = time.time()
        for callback_id, known in sorted(self._known.items(), key=lambda item: item[1].due):
            if known.due > now:
                return known.due - now
            if len(self._running) >= MAX_SENDING:
                break
            if callback_id in self._running:
                continue
            if known.host is None:
                self._run_in_background(callback_id, self._read(callback_id, known))
            elif hosts[known.host] < MAX_SENDING_PER_HOST and owners[known.owner] < MAX_SENDING_PER_KEY:
                hosts[known.host] += 1
                owners[known.owner] += 1
                self._run_in_background(callback_id, self._send(callback_id, known))
        return _NEVER  # the end of an attempt triggers the next check

    def _run_in_background(self, callback_id: str, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - whatever the cause, the callback is pending and is retried
                self._postpone(callback_id, error)
            finally:
                self._running.pop(callback_id, None)
                self._changed.set()

        self._running[callback_id] = asyncio.create_task(run())

    async def _read(self, callback_id: str, known: _Known) -> None:
        """Read the receiver, the key and the due time of a callback."""
        record = await self._in_thread(lambda: self._callbacks.find(callback_id))
        if record is None:
            self._known.pop(callback_id, None)
            return
        known.host, known.owner, known.due = record.host, record.owner, record.due_at.timestamp()

    async def _send(self, callback_id: str, known: _Known) -> None:
        if not self._leadership.leads:
            return
        attempt = await self._in_thread(lambda: self._callbacks.attempt(callback_id, self._settings))
        if attempt.outcome in ("delivered", "failed", "retried"):
            counted: int = getattr(self._leadership.callbacks, attempt.outcome)
            self._count(**{attempt.outcome: counted + 1})
        if attempt.due_at is None:
            self._known.pop(callback_id, None)
        else:
            known.due = attempt.due_at.timestamp()

    def _postpone(self, callback_id: str, error: Exception) -> None:
        """Retry later when a record cannot be read or written. A damaged record stays for a person to inspect."""
        damaged = isinstance(error, Rejected)
        if callback_id in self._known:
            self._known[callback_id].due = _NEVER if damaged else time.time() + ATTEMPT_LEASE_SECONDS
        cause = error if isinstance(error, PanelworksError) else as_unexpected_error(error)
        log = logger.error if damaged else logger.warning
        log("callback %s not sent: %s [%s]", callback_id, cause, cause.code)

    async def _in_thread(self, call: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


async def follow_ended_pages(delivery: CallbackDelivery) -> None:
    """Pass the callbacks that the events of ended pages name to `delivery`, for as long as the supervisor runs."""
    wanted = EventFilter(event=EventNameFilter(name=[ENHANCED, FAILED, APPROVED, REJECTED, BATCH_ENDED]))
    while True:
        try:
            async with get_events_subscriber(filter=wanted, reconnection_attempts=3) as events:
                async for event in events:
                    if (callback_id := event.payload.get(CALLBACK_ID)) is not None:
                        delivery.expect(str(callback_id))
        except Exception as error:  # noqa: BLE001 - whatever the socket raises, it is opened again
            logger.warning("events of Prefect not received: %s", type(error).__name__)
        await asyncio.sleep(1)
