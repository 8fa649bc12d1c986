"""The outbox: accepted jobs get their runs, and decisions of people their events, in the background, so that a caller does not
wait for Prefect.

A job is stored before it is answered with 202. A gateway that dies in between resumes it when it starts; another
gateway on the same store does so earlier. Prefect creates one run for one idempotency key, so both may try.
"""

import asyncio
import logging
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from deployments.names import MIRRORED
from orchestration.events import book_decision_event, decision_event, emit_page_end
from panelworks.books.review import BookReviews
from panelworks.domain.request import JobKey, PageRequest, job_digest
from panelworks.errors import Misconfigured, PanelworksError, Rejected, Transient
from panelworks.logs import log_ids
from panelworks.page import pipeline
from panelworks.page.admission import MAX_PENDING_JOBS, AcceptedJob
from panelworks.page.direct import record_failure
from panelworks.page.engine import Engine
from panelworks.page.review import Reviews
from panelworks.telemetry import trace_span
from service.emission import generated_event
from service.gateway.event_stream import EventStream
from service.gateway.jobs import Jobs, status_of

logger = logging.getLogger(__name__)

_SUBMITTERS: Final = 2
"""Runs created at the same time: SQLite takes no more without lock errors."""
_STATE_SECONDS: Final = 2.0
"""For how long a repeated post waits for Prefect's answer whether the job was cancelled."""
_ATTEMPT_SECONDS: Final = 15.0
"""After which the creation of a run is retried."""
_RETRY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_SCAN_SECONDS: Final = 15.0
_MAX_LISTED: Final = 200
_ORPHAN_AGE: Final = timedelta(seconds=30)
"""Age from which a pending job of another gateway is taken over."""
_EMIT_SECONDS: Final = 5.0
"""How long a decision on a page waits for Prefect; its event is emitted later if it takes longer."""


class Outbox:
    """Accepts jobs and creates their runs."""

    def __init__(self, engine: Engine, jobs: Jobs, event_stream: EventStream) -> None:
        self._engine = engine
        self._jobs = jobs
        self._event_stream = event_stream
        self._queue: asyncio.Queue[AcceptedJob] = asyncio.Queue()
        self._waiting: dict[JobKey, AcceptedJob] = {}

    async def accept(self, request: PageRequest, queue: str) -> AcceptedJob | None:
        """Store a job and enqueue it; None when it is new, else the job that was accepted before under this id.

        A job that failed, was cancelled or lost its run is accepted again.

        Raises:
            Transient: `queue_full`, or the store is unavailable. Misconfigured: the store cannot be written.
        """
        if len(self._waiting) >= MAX_PENDING_JOBS:
            raise Transient("queue_full", "Too many accepted jobs wait for Prefect.")
        job = AcceptedJob(request=request, queue=queue, accepted_at=datetime.now(UTC))
        known = await asyncio.to_thread(self._store, job)
        if known is not None and known.settled and await self._needs_another_run(known):
            repeated = job.model_copy(update={"attempt": known.attempt + 1})
            known = await asyncio.to_thread(self._engine.accepted.accept, repeated)
        if known is not None:
            return known
        stored = await asyncio.to_thread(self._engine.accepted.find, request.key)
        self._event_stream.expect(request.key)
        self._enqueue(stored or job)
        return None

    async def pending(self) -> list[AcceptedJob]:
        """Jobs that have no run yet, of all gateways, the newest first.

        Of the jobs of other gateways, the newest `_MAX_LISTED` are read: this gateway takes over older ones.
        """
        own = dict(self._waiting)

        def read_others() -> list[AcceptedJob]:
            return list(self._engine.accepted.pending(skip=own, limit=_MAX_LISTED))

        others = await asyncio.to_thread(read_others)
        return sorted([*own.values(), *others], key=lambda job: job.accepted_at, reverse=True)

    async def run(self) -> None:
        """Create runs while the gateway runs."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_over())
            for _ in range(_SUBMITTERS):
                group.create_task(self._submit_all())

    async def _needs_another_run(self, job: AcceptedJob) -> bool:
        """Was the job's last run cancelled, or is it missing, as after a restore of a database that is older than the store?

        Unknown while Prefect is unavailable: then the job counts as in progress.
        """
        end = self._event_stream.end_of(job.request.key, job.run_id)
        if end is not None or job.run_id is None:
            return end is not None and end["status"] == "cancelled"
        with suppress(Transient, TimeoutError):
            async with asyncio.timeout(_STATE_SECONDS):
                run = await self._jobs.read(UUID(job.run_id))
            if run is None:
                return await asyncio.to_thread(self._engine.jobs.job, job.request.key) is None
            return status_of(run) == "cancelled"
        return False

    def _store(self, job: AcceptedJob) -> AcceptedJob | None:
        known = self._engine.accepted.accept(job)
        if known is None or not known.settled:
            return known
        record = self._engine.jobs.job(known.request.key)
        if record is None or record.result.status == "success":
            return known
        return self._engine.accepted.accept(job.model_copy(update={"attempt": known.attempt + 1}))

    def _enqueue(self, job: AcceptedJob) -> None:
        if job.request.key not in self._waiting:
            self._waiting[job.request.key] = job
            self._queue.put_nowait(job)

    async def _take_over(self) -> None:
        """Resume the jobs that this gateway accepted before it died, then take over those of other gateways."""
        min_age = timedelta(0)
        while True:
            try:
                for job in await asyncio.to_thread(lambda: list(self._engine.accepted.pending())):
                    if datetime.now(UTC) - job.accepted_at >= min_age:
                        self._enqueue(job)
            except PanelworksError as error:
                logger.warning("accepted jobs not read: %s", error)
            min_age = _ORPHAN_AGE
            await asyncio.sleep(_SCAN_SECONDS)

    async def _submit_all(self) -> None:
        while True:
            job = await self._queue.get()
            job_id, parent = job.request.job_id, job.request.origin.traceparent
            try:
                with (
                    log_ids(job_id=job_id),
                    trace_span("create run", kind="producer", parent=parent, job_id=job_id),
                ):
                    await self._submit(job)
            except Exception:
                logger.exception("job %s has no run yet: unexpected error", job.request.job_id)
            finally:
                self._waiting.pop(job.request.key, None)

    async def _submit(self, job: AcceptedJob) -> None:
        """Create the run of a job. Retry for as long as Prefect is unavailable."""
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(_ATTEMPT_SECONDS):
                    run_id = await self._jobs.submit(job)
                break
            except TimeoutError:
                # Prefect's client retries for minutes. Submitted again, it is the same run.
                logger.warning(
                    "job %s has no run yet: Prefect takes longer than %s s",
                    job.request.job_id,
                    _ATTEMPT_SECONDS,
                )
            except Rejected as error:
                await self._refuse(job, error)
                return
            except PanelworksError as error:
                pause = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                level = logging.WARNING if attempt else logging.INFO  # a busy SQLite refuses once
                logger.log(
                    level, "job %s has no run yet, retry in %s s: %s", job.request.job_id, pause, error
                )
                attempt += 1
                await asyncio.sleep(pause)
        self._event_stream.set_run(job.request.key, str(run_id))
        if job.request.origin.entry_point == "event":
            # Before the job is settled: a gateway that takes over the job emits the event again, with the same id.
            await self._emit_generated(job)
        await asyncio.to_thread(self._engine.accepted.settle, job, str(run_id))
        if await asyncio.to_thread(self._engine.accepted.take_requested_cancellation, job):
            await self._cancel(run_id)

    async def _cancel(self, run_id: UUID) -> None:
        """Cancel a run whose job was cancelled before the run was created."""
        try:
            run = await self._jobs.read(run_id)
            if run is not None:
                await asyncio.to_thread(self._engine.accepted.cancel_run, str(run_id))
                await self._jobs.cancel(run)
        except PanelworksError as error:
            logger.warning("run %s not cancelled: %s", run_id, error)

    async def _refuse(self, job: AcceptedJob, error: Rejected) -> None:
        """Record the failure of a job that Prefect refuses, and emit its end."""
        logger.error("job %s refused by Prefect: %s", job.request.job_id, error)
        result = pipeline.failed(job.request, error)
        record = self._engine.callbacks.record
        callback_id = await asyncio.to_thread(record, job.request, result, job.idempotency_key)
        await asyncio.to_thread(record_failure, job.request, result, self._engine)
        await asyncio.to_thread(self._engine.accepted.settle, job, None)
        await self._event_stream.refuse(job.request, result)
        await asyncio.to_thread(emit_page_end, job.request, result, callback_id=callback_id, flow_run_id=None)

    async def _emit_generated(self, job: AcceptedJob) -> None:
        """Emit the event of the panel, for automations of the operator. No trigger of ours matches it."""
        request, origin = job.request, job.request.origin
        payload: dict[str, Any] = {"source": request.source, "job_id": request.job_id, "tool": origin.tool}
        if origin.traceparent is not None:
            payload["traceparent"] = origin.traceparent
        payload |= {"panel_id": origin.panel_id, "comic_id": origin.comic_id, "owner": origin.owner}
        event = generated_event(event_id(job), payload, "events")
        event["resource"]["prefect.resource.id"] = f"{MIRRORED}{request.job_id}"
        try:
            await self._jobs.emit(event)
        except PanelworksError as error:
            logger.warning("event of job %s not emitted: %s", request.job_id, error)


def event_id(job: AcceptedJob) -> str:
    """The id of the event of a generated panel, the same however often it is posted."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{job_digest(job.request.key)}:{job.attempt}"))


class DecisionReports:
    """Emits the events of decisions and records their callbacks; retries for as long as Prefect or the store fail."""

    def __init__(self, engine: Engine, reviews: Reviews, book_reviews: BookReviews, jobs: Jobs) -> None:
        self._engine = engine
        self._reviews, self._book_reviews = reviews, book_reviews
        self._jobs = jobs
        self._reporting = asyncio.Lock()

    async def run(self) -> None:
        """Report what an earlier attempt or another gateway left, while the gateway runs."""
        while True:
            try:
                await self.report()
            except PanelworksError as error:
                logger.warning("decisions of reviews not reported, retry in %s s: %s", _SCAN_SECONDS, error)
            await asyncio.sleep(_SCAN_SECONDS)

    async def report(self) -> None:
        """Report all decisions that are not reported yet."""
        async with self._reporting:
            await self._report_pages()
            await self._report_books()

    async def _report_pages(self) -> None:
        for identity, stored in await asyncio.to_thread(lambda: list(self._reviews.decisions.unreported())):
            try:
                # Carries the decision out if the process that stored it ended before.
                record = await asyncio.to_thread(self._reviews.decide, stored.key, stored.decision)
            except Rejected as error:
                logger.error("decision on job %s not carried out: %s", stored.job_id, error)
                await asyncio.to_thread(self._reviews.decisions.mark_reported, identity)
                continue
            except Misconfigured as error:  # until an operator acts; the others are reported
                logger.warning("decision on job %s not carried out yet: %s", stored.job_id, error)
                continue
            store = self._engine.callbacks.record
            callback_id = await asyncio.to_thread(store, record.request, record.result, identity)
            await self._jobs.emit(decision_event(identity, record, callback_id))
            await asyncio.to_thread(self._reviews.decisions.mark_reported, identity)

    async def _report_books(self) -> None:
        decisions = self._book_reviews.decisions
        for identity, stored in await asyncio.to_thread(lambda: list(decisions.unreported())):
            try:
                result = await asyncio.to_thread(self._book_reviews.decide, stored.out, stored.decision)
            except Rejected as error:
                logger.error("decision on book %s not carried out: %s", stored.out, error)
                await asyncio.to_thread(decisions.mark_reported, identity)
                continue
            except Misconfigured as error:
                logger.warning("decision on book %s not carried out yet: %s", stored.out, error)
                continue
            await self._jobs.emit(book_decision_event(identity, result))
            await asyncio.to_thread(decisions.mark_reported, identity)

    async def report_soon(self) -> None:
        """Report now if Prefect answers soon; otherwise `run` does so later."""
        try:
            async with asyncio.timeout(_EMIT_SECONDS):
                await self.report()
        except (PanelworksError, TimeoutError) as error:
            logger.warning("decision of a review is reported later: %s", error or "Prefect takes long")
