"""The runs of batches: a gateway starts the rows of each batch, a window at a time, and reports its end.

A batch of ten thousand pages must not delay other jobs: at most `MAX_RUNNING_ROWS` of its jobs wait or run. The gateway that
accepted a batch runs it. If that gateway ends, another one, or the same one after its restart, continues from the state in the
store when nothing has been written to it for `ORPHAN_SECONDS`. A row has one job id, so a row that is started twice is one job.
"""

import asyncio
import logging
import math
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from orchestration.events import batch_event
from panelworks.domain.request import JobKey, PageRequest, job_digest
from panelworks.domain.result import ErrorInfo
from panelworks.errors import PanelworksError, Rejected, UnknownName
from panelworks.page import pipeline
from panelworks.page.batches import Batch, BatchRow, BatchState, BatchSummary, RowOutcome, summarize
from panelworks.page.direct import record_failure
from panelworks.page.engine import Engine
from service.gateway.event_stream import EventStream
from service.gateway.jobs import Jobs, status_of
from service.gateway.metrics import Metrics
from service.gateway.outbox import Outbox

logger = logging.getLogger(__name__)

MAX_RUNNING_ROWS: Final = 200
"""Jobs of one batch that wait or run."""
ORPHAN_SECONDS: Final = 30.0
"""Age of the state of a batch from which another gateway continues it."""
_STARTED_TOGETHER: Final = 8
_HEARTBEAT_SECONDS: Final = 10.0
_SAVE_SECONDS: Final = 2.0
_LARGE_ROWS: Final = 1000
"""The state of larger batches is written less often."""
_STEP_SECONDS: Final = 0.5
_CHECK_SECONDS: Final = 5.0
"""After which the store is asked for a job of which no event was received."""
_READ_RUN_SECONDS: Final = 60.0
"""After which Prefect is asked."""
_SCAN_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 5.0


class _Running:
    """A batch that this gateway runs."""

    def __init__(self, batch: Batch, state: BatchState) -> None:
        self.batch = batch
        self.started = state.started
        self.outcomes = dict(state.outcomes)
        self.ended_at = state.ended_at
        self.cancelled = state.cancelled
        self.checked: dict[int, float] = {}
        """When the store was asked for a row last, in monotonic seconds."""
        self.read: dict[int, float] = {}
        """When Prefect was asked."""
        self.saved_at = 0.0
        self.saved: tuple[int, int] | None = None
        """How many rows were started, and had ended, when the state was stored."""
        self.wake = asyncio.Event()

    @property
    def state(self) -> BatchState:
        """The state as it is stored."""
        return BatchState(
            started=self.started,
            outcomes=self.outcomes,
            cancelled=self.cancelled,
            ended_at=self.ended_at,
        )

    @property
    def running(self) -> list[int]:
        """Indices of the rows that were started and have not ended."""
        return [index for index in range(self.started) if index not in self.outcomes]

    @property
    def is_complete(self) -> bool:
        """Have all rows ended?"""
        return len(self.outcomes) == len(self.batch.rows)


class BatchRuns:
    """Runs batches, and knows the latest state of those that it runs."""

    def __init__(
        self, engine: Engine, jobs: Jobs, event_stream: EventStream, outbox: Outbox, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._event_stream = event_stream
        self._outbox = outbox
        self._metrics = metrics
        self._running: dict[JobKey, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, batch: Batch) -> None:
        """Run a batch that was stored now."""
        self._run_in_background(_Running(batch, BatchState()))

    async def run(self) -> None:
        """Continue the batches of gateways that have ended, while this gateway runs."""
        try:
            while True:
                try:
                    await self._take_over()
                except PanelworksError as error:
                    logger.warning("open batches not read: %s", error)
                await asyncio.sleep(_SCAN_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()

    async def summary(self, batch: Batch) -> BatchSummary:
        """The summary of a batch as far as this gateway knows."""
        state = await self.state(batch)
        cancelling = state.ended_at is None and await asyncio.to_thread(
            self._engine.batches.is_cancelled, batch
        )
        return await asyncio.to_thread(summarize, batch, state, cancelling=cancelling)

    async def state(self, batch: Batch) -> BatchState:
        """The state of a batch: from memory if this gateway runs it."""
        known = self._running.get(batch.key)
        return (
            known.state if known is not None else await asyncio.to_thread(self._engine.batches.state, batch)
        )

    async def cancel(self, batch: Batch) -> None:
        """Cancel a batch: its waiting rows are not started, its jobs are cancelled.

        Raises:
            Rejected: `batch_ended`.
        """
        if (await self.state(batch)).ended_at is not None:
            raise Rejected("batch_ended", "This batch has ended.")
        await asyncio.to_thread(self._engine.batches.request_cancellation, batch)
        known = self._running.get(batch.key)
        if known is not None:
            known.wake.set()

    async def _take_over(self) -> None:
        batches, running = self._engine.batches, {job_digest(key) for key in self._running}
        for digest, changed in await asyncio.to_thread(lambda: list(batches.open_batches())):
            if digest in running or time.time() - changed < ORPHAN_SECONDS:
                continue
            batch = await asyncio.to_thread(batches.read_open, digest)
            if batch is not None and batch.key not in self._running:
                logger.info("batch %s is continued", batch.batch_id)
                continued = _Running(batch, await asyncio.to_thread(batches.state, batch))
                # The events of ended jobs were missed: Prefect is asked for all of them at once.
                continued.read = dict.fromkeys(continued.running, -math.inf)
                self._run_in_background(continued)

    def _run_in_background(self, running: _Running) -> None:
        self._running[running.batch.key] = running
        task = asyncio.create_task(self._run_batch(running))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_batch(self, running: _Running) -> None:
        """Run a batch to its end. Whatever fails is tried again."""
        try:
            while not await self._step_safely(running):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STEP_SECONDS):
                        await running.wake.wait()
                running.wake.clear()
        finally:
            self._running.pop(running.batch.key, None)

    async def _step_safely(self, running: _Running) -> bool:
        try:
            return await self._step(running)
        except PanelworksError as error:
            logger.warning("batch %s is continued later: %s", running.batch.batch_id, error)
        except Exception:
            logger.exception("batch %s is continued later: unexpected error", running.batch.batch_id)
        with suppress(PanelworksError):
            await self._save(running)  # no other gateway takes the batch over meanwhile
        await asyncio.sleep(_RETRY_SECONDS)
        return False

    async def _step(self, running: _Running) -> bool:
        """Start rows, look at those that run, store the state; True when the end of the batch was reported."""
        batch, batches = running.batch, self._engine.batches
        if not await asyncio.to_thread(batches.is_open, batch):
            return True  # another gateway reported its end
        if running.ended_at is None:
            if await asyncio.to_thread(batches.is_cancelled, batch):
                await self._cancel_rows(running)
            else:
                await self._start_rows(running)
            await self._look_at_rows(running)
            if not running.is_complete:
                await self._save(running)
                return False
            running.ended_at = datetime.now(UTC)
            await asyncio.to_thread(batches.write_state, batch, running.state)
        await self._report_end(running)
        return True

    async def _report_end(self, running: _Running) -> None:
        """Record the callback, emit the event, then close the batch. Repeated after a kill, both have the same identity."""
        batch, summary = running.batch, summarize(running.batch, running.state)
        record = self._engine.callbacks.record_batch
        callback_id = await asyncio.to_thread(record, batch, summary)
        try:
            await self._jobs.emit(batch_event(batch, summary, callback_id))
        except Rejected as error:
            logger.error("event of batch %s not emitted: %s", batch.batch_id, error)
        await asyncio.to_thread(self._engine.batches.close, batch)
        logger.info("batch %s ended: %s", batch.batch_id, summary.counts)

    async def _save(self, running: _Running) -> None:
        """Store the state if it changed, or to show that this gateway is alive."""
        age = time.monotonic() - running.saved_at
        seconds = _SAVE_SECONDS * max(1.0, len(running.batch.rows) / _LARGE_ROWS)
        progress = running.started, len(running.outcomes)
        if age >= _HEARTBEAT_SECONDS or (progress != running.saved and age >= seconds):
            await asyncio.to_thread(self._engine.batches.write_state, running.batch, running.state)
            running.saved_at, running.saved = time.monotonic(), progress

    async def _start_rows(self, running: _Running) -> None:
        """Start the next rows, as many as fit into the window, until the batch is cancelled."""
        rows, is_cancelled = running.batch.rows, self._engine.batches.is_cancelled
        free = MAX_RUNNING_ROWS - len(running.running)
        while free > 0 and running.started < len(rows):
            if await asyncio.to_thread(is_cancelled, running.batch):
                return
            end = min(running.started + _STARTED_TOGETHER, len(rows))
            indices = range(running.started, end)
            outcomes = await asyncio.gather(
                *(self._start_row(running.batch, rows[index]) for index in indices)
            )
            for index, outcome in zip(indices, outcomes, strict=True):
                if outcome is not None:
                    running.outcomes[index] = outcome
            running.started = end
            free -= sum(outcome is None for outcome in outcomes)
            await self._save(running)

    async def _start_row(self, batch: Batch, row: BatchRow) -> RowOutcome | None:
        """Start a row. Returns how it ended if that is known at once, as for a cached page.

        Raises:
            Transient, Misconfigured: it is started later.
        """
        if row.error is not None:
            return RowOutcome(status="refused", error=row.error)
        request = batch.request_of(row)
        try:
            known = await asyncio.to_thread(self._find_known, request)
        except (Rejected, UnknownName) as error:
            return await asyncio.to_thread(self._record_failure, request, error)
        if known is not None:
            return known
        await self._outbox.accept(request, batch.queue)
        return None

    def _find_known(self, request: PageRequest) -> RowOutcome | None:
        """The result of an earlier job of this id, or a cached one; None if the page must be processed.

        Raises:
            Rejected, UnknownName: it cannot be processed.
        """
        accepted, record = self._engine.accepted.find(request.key), self._engine.jobs.job(request.key)
        if accepted is not None or record is not None:
            earlier = accepted.request if accepted is not None else record.request if record else request
            if (earlier.source, earlier.options, earlier.out) != (
                request.source,
                request.options,
                request.out,
            ):
                taken = Rejected("job_id_taken", "Another page, or other options, have this job_id.")
                return RowOutcome(status="refused", error=ErrorInfo.of(taken))
        if record is not None and record.result.status == "success" and not request.force:
            known = {"cached": True, "seconds": 0.0, "usd": None}
            return RowOutcome.of(record.result).model_copy(update=known)
        if accepted is not None or request.force or request.source.startswith(("https:", "http:")):
            return None  # a worker downloads pages
        try:
            return self._recall(request)
        except (Rejected, UnknownName):
            raise
        except PanelworksError as error:
            logger.info("job %s is not answered from the cache: %s", request.job_id, error)
        except Exception:
            logger.exception("job %s is not answered from the cache: unexpected error", request.job_id)
        return None  # if it fails again, the run of the page reports it

    def _recall(self, request: PageRequest) -> RowOutcome | None:
        page = self._engine.identify(request)
        outcome = self._engine.recall(page)
        if outcome is None:
            return None
        result = self._engine.publish(request, page, outcome, cached=True)
        self._engine.record(request, result)
        self._metrics.count_recalled(result, request.origin.tool)
        return RowOutcome.of(result)

    def _record_failure(self, request: PageRequest, error: PanelworksError) -> RowOutcome:
        result = pipeline.failed(request, error)
        record_failure(request, result, self._engine)
        return RowOutcome.of(result)

    async def _look_at_rows(self, running: _Running) -> None:
        """Find the rows that have ended."""
        now = time.monotonic()
        for index in running.running:
            key = JobKey(running.batch.origin.owner, running.batch.rows[index].job_id)
            end = self._event_stream.end_of(key)
            if end is None and now - running.checked.get(index, -_CHECK_SECONDS) < _CHECK_SECONDS:
                continue
            running.checked[index] = now
            ask_prefect = now - running.read.setdefault(index, now) >= _READ_RUN_SECONDS
            outcome = await self._outcome_of(key, ask_prefect=ask_prefect or end is not None)
            if ask_prefect:
                running.read[index] = now
            if outcome is not None:
                running.outcomes[index] = outcome
                running.checked.pop(index, None)
                running.read.pop(index, None)

    async def _outcome_of(self, key: JobKey, *, ask_prefect: bool) -> RowOutcome | None:
        """How a job ended; None while it waits or runs. What only Prefect knows is asked for if `ask_prefect`."""
        job = await asyncio.to_thread(self._engine.accepted.find, key)
        record = await asyncio.to_thread(self._engine.jobs.job, key)
        if job is None:
            return RowOutcome.of(record.result) if record is not None else _lost() if ask_prefect else None
        if not job.settled:
            return None
        if record is not None and (
            record.result.status == "success" or job.attempt == 1 or job.run_id is None
        ):
            return RowOutcome.of(record.result)
        end = self._event_stream.end_of(key, job.run_id)
        if end is not None:
            status = end["status"]
        elif ask_prefect and job.run_id is not None:
            run = await self._jobs.read(UUID(job.run_id))
            status = "failed" if run is None else status_of(run)
        else:
            return None
        if status in ("queued", "running"):
            return None
        if status == "cancelled":
            return RowOutcome(status="cancelled")
        if record is not None:
            return RowOutcome.of(record.result)
        return _lost()

    async def _cancel_rows(self, running: _Running) -> None:
        """Start no further row, and cancel the jobs of those that were started."""
        running.cancelled = True
        for index in range(running.started, len(running.batch.rows)):
            error = running.batch.rows[index].error
            running.outcomes[index] = RowOutcome(status="refused" if error else "cancelled", error=error)
        running.started = len(running.batch.rows)
        now = time.monotonic()
        for index in running.running:
            if now - running.read.get(index, -_CHECK_SECONDS) < _CHECK_SECONDS:
                continue
            running.read[index] = now
            key = JobKey(running.batch.origin.owner, running.batch.rows[index].job_id)
            outcome = await self._cancel_job(key)
            if outcome is not None:
                running.outcomes[index] = outcome

    async def _cancel_job(self, key: JobKey) -> RowOutcome | None:
        """Cancel a job, or have it cancelled as soon as it has a run. Returns how it ended, if it has."""
        accepted = self._engine.accepted
        job = await asyncio.to_thread(accepted.find, key)
        if job is not None and not job.settled:
            await asyncio.to_thread(accepted.request_cancellation, job)
            return None
        if job is None or job.run_id is None:
            return await self._outcome_of(key, ask_prefect=True)
        run = await self._jobs.read(UUID(job.run_id))
        if run is not None and run.state is not None and not run.state.is_final():
            await asyncio.to_thread(accepted.cancel_run, job.run_id)
            await self._jobs.cancel(run)
        return await self._outcome_of(key, ask_prefect=True)


def _lost() -> RowOutcome:
    """The outcome of a job without a result."""
    message = "The run ended before it could record a result."
    return RowOutcome(status="failed", error=ErrorInfo(code="failed", message=message, fault="service"))
