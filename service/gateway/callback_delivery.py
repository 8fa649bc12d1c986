"""The delivery of callbacks by the gateway that leads: some at the same time, fewer for one receiver or one key.

A run records its callback in the working store and announces it with the end of its page, so that the leader sends it
at once. A listing of the pending callbacks finds those whose announcement was missed, and those of a leader that died.
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

from panelworks.errors import PanelworksError, Rejected, as_unexpected_error
from panelworks.page.callbacks import ATTEMPT_LEASE_SECONDS, Callbacks
from panelworks.settings import Settings
from service.gateway.metrics import Metrics

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

MAX_SENDING: Final = 16
"""Callbacks that are sent at the same time; as many records are in memory, of 4 MiB at most."""
MAX_SENDING_PER_KEY: Final = 8
MAX_SENDING_PER_HOST: Final = 2
MAX_KNOWN: Final = 20_000
"""Pending callbacks in memory, of some 300 bytes each. Further ones wait in the store."""
_SCAN_SECONDS: Final = 30.0
"""Between two listings: 2,880 a day, about one cent on S3."""
_LEADER_SECONDS: Final = 2.0
"""Between two looks at whether this gateway leads."""
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
    """Sends pending callbacks for as long as the gateway runs and while it leads."""

    def __init__(
        self, callbacks: Callbacks, settings: Settings, metrics: Metrics, leads: Callable[[], bool]
    ) -> None:
        self._callbacks = callbacks
        self._settings = settings
        self._metrics = metrics
        self._leads = leads
        self._known: dict[str, _Known] = {}
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._next_scan = 0.0
        self._changed = asyncio.Event()
        # Threads of its own: silent receivers must not occupy those of the routes.
        self._threads = ThreadPoolExecutor(MAX_SENDING, "panelworks-callback")

    def expect(self, callback_id: str) -> None:
        """Send a callback at once that was recorded a moment ago, if this gateway leads."""
        if _ID.fullmatch(callback_id) and len(self._known) < MAX_KNOWN:
            self._known.setdefault(callback_id, _Known())
            self._changed.set()

    async def run(self) -> None:
        """Send what is due, again and again. An attempt that is cut off ends in its thread and records its outcome."""
        try:
            while True:
                self._changed.clear()
                seconds = _LEADER_SECONDS
                try:
                    seconds = await self._look()
                except Exception as error:  # noqa: BLE001 - whatever it was, the next look may succeed
                    logger.warning("pending callbacks are not read: %s", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):  # `wait_for` of Python 3.11 may drop a cancellation
                        await self._changed.wait()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look(self) -> float:
        """Start what is due; gives the seconds after which to look again."""
        if not self._leads():
            self._known.clear()
            self._next_scan = 0.0
            self._metrics.callbacks_pending.set(0)
            return _LEADER_SECONDS
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + _SCAN_SECONDS
            for callback_id in await asyncio.to_thread(self._listed):
                self._known.setdefault(callback_id, _Known())
        self._metrics.callbacks_pending.set(len(self._known))
        return min(self._start_due(), _LEADER_SECONDS)

    def _listed(self) -> list[str]:
        """Pending callbacks that are not known yet, as many as may be known."""
        new = (one for one in self._callbacks.pending() if one not in self._known and _ID.fullmatch(one))
        return list(islice(new, MAX_KNOWN - len(self._known)))

    def _start_due(self) -> float:
        """Start attempts, the longest due first, within the limits; gives the seconds until the next one is due."""
        working = [self._known[one] for one in self._at_work if one in self._known]
        hosts = Counter(one.host for one in working if one.host is not None)
        owners = Counter(one.owner for one in working if one.host is not None)
        now = time.time()
        for callback_id, known in sorted(self._known.items(), key=lambda item: item[1].due):
            if known.due > now:
                return known.due - now
            if len(self._at_work) >= MAX_SENDING:
                break
            if callback_id in self._at_work:
                continue
            if known.host is None:
                self._begin(callback_id, self._read(callback_id, known))
            elif hosts[known.host] < MAX_SENDING_PER_HOST and owners[known.owner] < MAX_SENDING_PER_KEY:
                hosts[known.host] += 1
                owners[known.owner] += 1
                self._begin(callback_id, self._send(callback_id, known))
        return _NEVER  # the end of an attempt is the next occasion

    def _begin(self, callback_id: str, work: Coroutine[Any, Any, None]) -> None:
        async def to_the_end() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - whatever it was, the callback is pending, and tried again
                self._put_off(callback_id, error)
            finally:
                self._at_work.pop(callback_id, None)
                self._changed.set()

        self._at_work[callback_id] = asyncio.create_task(to_the_end())

    async def _read(self, callback_id: str, known: _Known) -> None:
        """Find out whose callback it is, and when it is due."""
        record = await self._in_thread(lambda: self._callbacks.find(callback_id))
        if record is None:
            self._known.pop(callback_id, None)
            return
        known.host, known.owner, known.due = record.host, record.owner, record.due_at.timestamp()

    async def _send(self, callback_id: str, known: _Known) -> None:
        if not self._leads():
            return
        attempt = await self._in_thread(lambda: self._callbacks.attempt(callback_id, self._settings))
        if attempt.outcome in ("delivered", "failed", "retried"):
            self._metrics.callbacks.labels(attempt.outcome).inc()
        if attempt.due_at is None:
            self._known.pop(callback_id, None)
        else:
            known.due = attempt.due_at.timestamp()

    def _put_off(self, callback_id: str, error: Exception) -> None:
        """Wait with a callback whose record cannot be read or written; a damaged one is left for a person to look at."""
        damaged = isinstance(error, Rejected)
        if callback_id in self._known:
            self._known[callback_id].due = _NEVER if damaged else time.time() + ATTEMPT_LEASE_SECONDS
        cause = error if isinstance(error, PanelworksError) else as_unexpected_error(error)
        log = logger.error if damaged else logger.warning
        log("callback %s is not sent: %s [%s]", callback_id, cause, cause.code)

    async def _in_thread(self, call: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
