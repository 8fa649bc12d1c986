"""The event stream: recent events of runs in memory, sent to the clients that follow a job.

One subscription to Prefect's events serves all clients. A message's `cursor` is the time of its event in
microseconds, the same in every gateway: a client that lost its connection requests what came after its last message.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.events import Event

from deployments.names import GENERATED, MIRRORED
from orchestration.events import ENHANCED, FAILED, PREVIEWED, PROGRESS
from orchestration.page_runs import DUPLICATE
from panelworks.domain.request import JobKey, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import PanelworksError
from panelworks.page.admission import AcceptedJob, AcceptedJobs
from panelworks.page.pipeline import MAX_RUNS
from service.gateway.jobs import Jobs, key_of, meaning_of
from service.gateway.metrics import Metrics

logger = logging.getLogger(__name__)
Message = dict[str, Any]
_REFUSED: Final = "prefect.automation.action.failed"
_RUN: Final = "prefect.flow-run."
_OF_BOOKS: Final = ("comic.book.", "comic.backfill.")
"""Prefixes of events that runs of books and backfills emit."""
BACKFILL_FLOW: Final = "backfill"
BOOK_FLOW: Final = "enhance-book"
_MAX_JOBS: Final = 2000
_MAX_MESSAGES: Final = 400
_RESULT_DELAY_SECONDS: Final = 3.0
"""Seconds in which the event with the result of an ended run may still arrive, before the job counts as ended."""
_ENDS: Final = ("CANCELLED", "FAILED", "CRASHED", "COMPLETED")
_UNREPORTED_STATES: Final = (
    DUPLICATE,
    "heartbeat",
    "Scheduled",
    "Pending",
    "Late",
    "AwaitingConcurrencySlot",
)
"""States of runs that clients are not notified of."""
_PREVIEW_FIELDS: Final = ("sha256", "media_type", "width", "height", "bytes", "url")
"""Of a preview in a message. Its `uri` may be a place in the working store."""


class Track:
    """The messages of one job."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque(maxlen=_MAX_MESSAGES)
        self.changed = asyncio.Condition()
        self.run_id: str | None = None
        self.loading = asyncio.Lock()
        self.loaded = False
        """Were the stored events of the job read from the server?"""
        self.expected = False
        """Was the job accepted or its event received, so that it is known before its run?"""

    @property
    def ended(self) -> bool:
        """Has the last message been added?"""
        return bool(self.messages) and self.messages[-1]["type"] == "end"

    async def add(self, message: Message) -> None:
        """Add a message, unless the job has ended."""
        if self.ended:
            return
        if self.messages:
            message["cursor"] = max(message["cursor"], self.messages[-1]["cursor"] + 1)
        self.messages.append(message)
        async with self.changed:
            self.changed.notify_all()


class EventStream:
    """Receives Prefect's events while the gateway runs."""

    def __init__(self, jobs: Jobs, metrics: Metrics, accepted: AcceptedJobs) -> None:
        self._jobs = jobs
        self._accepted = accepted
        self._metrics = metrics
        self._tracks: OrderedDict[JobKey, Track] = OrderedDict()
        self._job_of_run: OrderedDict[str, JobKey] = OrderedDict()
        self._later: set[asyncio.Task[None]] = set()
        self.connected = False
        self.changes = 0
        """Events so far."""
        self.run_changes = 0
        """Events so far that may change which jobs wait, run or have ended."""
        self.book_changes = 0
        """Events so far that may change what is known of books and backfills."""
        self._changed = asyncio.Event()
        """Set by the next event, which replaces it."""
        self.followers: Counter[str] = Counter()
        """Open WebSockets of each caller."""
        self.waits: Counter[str | None] = Counter()
        """Requests that wait for the end of a job, by the job's owner."""

    async def run(self) -> None:
        """Subscribe, and subscribe again when the connection is lost."""
        wanted = EventFilter(event=EventNameFilter(prefix=["comic.panel.", *_OF_BOOKS, _RUN, _REFUSED]))
        while True:
            try:
                async with get_events_subscriber(filter=wanted, reconnection_attempts=3) as events:
                    self.connected = True
                    async for event in events:
                        await self._take(event)
            except Exception as error:  # noqa: BLE001 - whatever the socket raises, it is opened again
                logger.warning("events of Prefect not received: %s", type(error).__name__)
            self.connected = False
            await asyncio.sleep(1)

    def track(self, key: JobKey) -> Track:
        """The track of a job, a new one when the job is unknown."""
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = Track()
            while len(self._tracks) > _MAX_JOBS:
                self._tracks.popitem(last=False)
        self._tracks.move_to_end(key)
        return track

    def expect(self, key: JobKey) -> None:
        """Register a job that starts, perhaps once more."""
        if self.track(key).ended:
            del self._tracks[key]
        self.track(key).expected = True

    def end_of(self, key: JobKey, run_id: str | None = None) -> Message | None:
        """The last message of a job that has ended; None when no end is known, or only that of another run."""
        track = self._tracks.get(key)
        if track is None or not track.ended or _differ(track.run_id, run_id):
            return None
        return track.messages[-1]

    def drop_earlier_attempt(self, job: AcceptedJob) -> None:
        """Forget how an earlier attempt of a job ended: another gateway may have accepted the job again."""
        track = self._tracks.get(job.request.key)
        if track is not None and track.ended and (not job.settled or _differ(track.run_id, job.run_id)):
            self.expect(job.request.key)

    def run_id_of(self, key: JobKey) -> str | None:
        """The last known run of a job."""
        track = self._tracks.get(key)
        return track.run_id if track is not None else None

    async def refuse(self, request: PageRequest, result: PageResult) -> None:
        """End a job for which no run could be created. The event that other gateways receive changes nothing here."""
        track = self.track(request.key)
        if not track.ended:
            self._metrics.count_ended(result, request.origin.tool)
        await track.add(
            {
                "type": "end", "job_id": request.job_id, "status": "failed",
                "result": result.model_dump(mode="json"), "cursor": time.time_ns() // 1000,
            }
        )  # fmt: skip

    def set_run(self, key: JobKey, run_id: str) -> None:
        """Register the run of a job."""
        self.track(key).run_id = run_id
        self._job_of_run[run_id] = key
        while len(self._job_of_run) > _MAX_JOBS:
            self._job_of_run.popitem(last=False)

    def progress_of(self, key: JobKey) -> tuple[Message, Message] | None:
        """The first and the last message about the progress of a job; None if there is none."""
        track = self._tracks.get(key)
        found = [one for one in track.messages if one["type"] == "progress"] if track is not None else []
        return (found[0], found[-1]) if found else None

    def preview_of(self, key: JobKey) -> Message | None:
        """The message with the preview of a job; None if it has none yet."""
        track = self._tracks.get(key)
        messages = reversed(track.messages) if track is not None else ()
        return next((one for one in messages if one["type"] == "preview"), None)

    def knows(self, key: JobKey) -> bool:
        """Is anything known of the job?"""
        track = self._tracks.get(key)
        return track is not None and (track.expected or bool(track.messages))

    async def loaded_track(self, key: JobKey) -> Track:
        """The track of a job, filled with the stored events of the server when no event was received here.

        Raises:
            Transient: the server does not answer.
        """
        track = self.track(key)
        async with track.loading:  # all its followers read them once
            if not track.messages and not track.loaded:
                await self._load(key, track)
                track.loaded = True
        return track

    async def _load(self, key: JobKey, track: Track) -> None:
        """Add the stored events of the job's present attempt."""
        job = await asyncio.to_thread(self._accepted.find, key)
        if job is not None and not job.settled:
            return  # it has no run yet
        for event in await self._jobs.read_events(f"comic.job.{key.job_id}"):
            message = _message(Event.model_validate(event))
            if message is None or event.get("payload", {}).get("owner") != key.owner or track.ended:
                continue
            run_id = message.get("flow_run_id")
            if job is None or not _differ(run_id, job.run_id):
                track.run_id = run_id or track.run_id
                await track.add(message)

    async def follow(self, key: JobKey, after: int) -> AsyncIterator[Message]:
        """The messages of a job after a cursor, as they arrive, up to the last one."""
        track = await self.loaded_track(key)
        while True:
            new = [message for message in list(track.messages) if message["cursor"] > after]
            for message in new:
                after = message["cursor"]
                yield message
                if message["type"] == "end":
                    return
            if track.ended and not new:
                return
            async with track.changed:
                if not track.messages or track.messages[-1]["cursor"] <= after:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(5):  # `wait_for` of Python 3.11 may drop a cancellation
                            await track.changed.wait()

    async def wait_for_change(self, since: int, seconds: float) -> None:
        """Wait for the next event if `changes` is still `since`, for some seconds at most."""
        if self.changes == since:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()

    async def _take(self, event: Event) -> None:
        """Process one event; an unexpected one is skipped."""
        is_of_books = _is_of_books(event)
        self.run_changes += event.event not in (PROGRESS, PREVIEWED) and not is_of_books
        self.book_changes += is_of_books
        try:
            if event.event == _REFUSED:
                logger.error("automation failed: %s", event.payload.get("reason"))
            elif event.event.startswith(_RUN):
                if event.resource.get("prefect.state-type") is not None:  # other events are no states
                    await self._take_state(event)
            elif not is_of_books:
                await self._take_page_event(event)
        except (KeyError, ValueError, TypeError) as error:
            logger.warning("event %s %s skipped: %s", event.event, event.id, type(error).__name__)
        self.changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _take_page_event(self, event: Event) -> None:
        if event.event == GENERATED:
            if not event.resource.id.startswith(MIRRORED):
                self.expect(JobKey(None, str(event.payload.get("job_id") or event.id)))
            return
        message = _message(event)
        if message is None:
            return
        key = JobKey(event.payload.get("owner"), str(event.payload["job_id"]))
        run_id = message.get("flow_run_id")
        before = self.track(key)
        if before.ended and message["type"] != "end" and message["cursor"] > before.messages[-1]["cursor"]:
            del self._tracks[key]  # the job is processed again
        if run_id:
            self.set_run(key, run_id)
        track = self.track(key)
        if message["type"] == "end" and not track.ended:
            self._count(event)
        await track.add(message)

    def _count(self, event: Event) -> None:
        result = PageResult.model_validate(event.payload["result"])
        self._metrics.count_ended(result, str(event.payload.get("tool")))
        self._metrics.outages.inc(int(event.payload.get("cache_outages") or 0))

    async def _take_state(self, event: Event) -> None:
        """Process the state of a run."""
        run_id = event.resource.id.removeprefix("prefect.flow-run.")
        kind = event.resource.get("prefect.state-type")
        if event.event == f"{_RUN}{DUPLICATE}":
            return  # another run has the job
        key = self._job_of_run.get(run_id, JobKey(None, run_id))
        if kind in _ENDS and run_id not in self._job_of_run and key not in self._tracks:
            self._run_in_background(self._take_end_of_unknown_run(event, run_id))
            return
        await self._take_state_of(event, key)

    async def _take_end_of_unknown_run(self, event: Event, run_id: str) -> None:
        """A run ended before its first stage: only the run's parameters name its job."""
        try:
            run = await self._jobs.read(UUID(run_id))
        except PanelworksError as error:
            logger.warning("end of run %s not reported: %s", run_id, error)
            return
        if run is not None and run.parameters.get("job_id"):
            self.set_run(key_of(run), run_id)
            await self._take_state_of(event, key_of(run))

    async def _take_state_of(self, event: Event, key: JobKey) -> None:
        name, kind = event.event.removeprefix(_RUN), event.resource.get("prefect.state-type")
        if name in _UNREPORTED_STATES or key not in self._tracks:
            return
        track = self.track(key)
        cursor = _cursor(event)
        if kind not in ("CANCELLED", "FAILED", "COMPLETED"):  # these are followed by the end
            status = meaning_of(str(kind))
            await track.add({"type": "state", "job_id": key.job_id, "status": status, "cursor": cursor})
        if kind == "CANCELLED":
            await track.add(
                {"type": "end", "job_id": key.job_id, "status": "cancelled", "cursor": cursor + 1}
            )
        crashed_again = kind == "CRASHED" and int(event.resource.get("prefect.run-count") or 0) >= MAX_RUNS
        if kind in ("FAILED", "COMPLETED") or crashed_again:
            # The event with the result takes another way and may arrive later.
            self._run_in_background(self._end_later(track, key.job_id, str(kind), cursor))

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine without delaying the next event."""
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _end_later(self, track: Track, job_id: str, kind: str, cursor: int) -> None:
        await asyncio.sleep(_RESULT_DELAY_SECONDS)
        status = "done" if kind == "COMPLETED" else "failed"
        await track.add({"type": "end", "job_id": job_id, "status": status, "cursor": cursor + 1})


def _is_of_books(event: Event) -> bool:
    """Does an event concern a book or a backfill?"""
    flows = {one.name for one in event.related if one.role == "flow"}
    return event.event.startswith(_OF_BOOKS) or not flows.isdisjoint((BACKFILL_FLOW, BOOK_FLOW))


def _differ(run_id: str | None, other: str | None) -> bool:
    """Are these two runs, as far as both are known?"""
    return run_id is not None and other is not None and run_id != other


def _message(event: Event) -> Message | None:
    """The message that clients receive for an event of a page; None for other events."""
    payload = event.payload
    if event.event == PROGRESS:
        fields = {
            name: payload[name] for name in ("job_id", "flow_run_id", "stage", "stage_percent", "percent")
        }
        return {"type": "progress", **fields, "cursor": _cursor(event)}
    if event.event == PREVIEWED:
        fields = {name: payload[name] for name in ("job_id", "flow_run_id", "width", "height", "placeholder")}
        preview = dict(payload["preview"])
        shown = {name: preview.get(name) for name in _PREVIEW_FIELDS}
        return {"type": "preview", **fields, "preview": shown, "cursor": _cursor(event)}
    if event.event not in (ENHANCED, FAILED):
        return None
    return {
        "type": "end",
        "job_id": payload["job_id"],
        "flow_run_id": payload["flow_run_id"],
        "status": "done" if event.event == ENHANCED else "failed",
        "result": payload["result"],
        "cursor": _cursor(event),
    }


def _cursor(event: Event) -> int:
    return int(event.occurred.timestamp() * 1_000_000)
