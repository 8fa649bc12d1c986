"""Events of pages and books: progress and ends that runs emit, and events of generated panels that are emitted again.

A flow binds its job with `reporting`; stages find it in the context. Outside of a bound job nothing is emitted.
"""

import contextvars
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal

import anyio
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.events import emit_event

from panelworks.domain.books import BookRequest, BookResult
from panelworks.domain.fields import digest_of
from panelworks.domain.request import PageRequest, job_digest
from panelworks.domain.result import ArtifactRef, IngestedPage, JobRecord, PageResult
from panelworks.domain.stages import StageName, page_percent
from panelworks.page.batches import Batch, BatchSummary
from panelworks.page.callbacks import BATCH_ENDED, end_event
from panelworks.progress import Progress, ignore_progress

logger = logging.getLogger(__name__)

RunProgress = Literal["comic.book.progress", "comic.backfill.progress"]
PROGRESS: Final = "comic.panel.progress"
PREVIEWED: Final = "comic.panel.previewed"
ENHANCED: Final = "comic.panel.enhanced"
FAILED: Final = "comic.panel.failed"
APPROVED: Final = "comic.panel.approved"
REJECTED: Final = "comic.panel.rejected"
BOOK_PROGRESS: Final[RunProgress] = "comic.book.progress"
BOOK_ENHANCED: Final = "comic.book.enhanced"
BOOK_APPROVED: Final = "comic.book.approved"
BOOK_REJECTED: Final = "comic.book.rejected"
BACKFILL_PROGRESS: Final[RunProgress] = "comic.backfill.progress"
CALLBACK_ID: Final = "callback_id"
"""Payload field: the recorded callback that is to be delivered."""
PROGRESS_DELAY_SECONDS: Final = 0.3
"""A stage that ends earlier emits no progress: each event costs the server some 10 ms of CPU time."""
PROGRESS_INTERVAL_SECONDS: Final = 0.25
"""Between two progress events inside a stage."""
MAX_EMISSIONS: Final = 5
"""How often an event of a generated panel is emitted again because the server was busy."""
EMISSION_DELAY_SECONDS: Final = 3.0
_EMISSIONS: Final = "emissions"
"""Payload field that counts them."""
_EVENT_LOOKUPS: Final = 5
_EVENT_LOOKUP_INTERVAL_SECONDS: Final = 1.0
_SERVER_BUSY: Final = re.compile(r"\b50[0234]\b")
"""In the reason of a failed action: the server's own API had no time for it. A locked SQLite database answers 503."""

_job: ContextVar[PageRequest | None] = ContextVar("job", default=None)


@contextmanager
def reporting(request: PageRequest) -> Iterator[None]:
    """Emit the progress of stages in a block under this job."""
    token = _job.set(request)
    try:
        yield
    finally:
        _job.reset(token)


@contextmanager
def report_stage(stage: StageName) -> Iterator[Progress]:
    """Emit the progress of a stage that takes its time; yields the callback for what is between begin and end."""
    request = _job.get()
    if request is None:
        yield ignore_progress
        return
    progress = _StageProgress(request, stage)
    try:
        yield progress
        progress.finish()
    finally:
        progress.stop()


class _StageProgress:
    """Progress of one stage of a job. A timer emits the first event; none is emitted if the stage ends before."""

    def __init__(self, request: PageRequest, stage: StageName) -> None:
        self._request, self._stage = request, stage
        self._share, self._emitted_at = 0.0, -1.0
        self._is_shown = False
        self._lock = threading.Lock()
        # Prefect finds the run of an event in the context, which a thread does not inherit by itself.
        show = contextvars.copy_context().run
        self._timer = threading.Timer(PROGRESS_DELAY_SECONDS, show, (self._show,))
        self._timer.daemon = True
        self._timer.start()

    def __call__(self, share: float) -> None:
        """Set the finished share, in [0, 1]."""
        with self._lock:
            self._share = share
            if self._is_shown and time.monotonic() - self._emitted_at >= PROGRESS_INTERVAL_SECONDS:
                self._emit()

    def finish(self) -> None:
        """The stage has ended: emit it, if its begin was emitted."""
        with self._lock:
            self._share = 1.0
            if self._is_shown:
                self._emit()

    def stop(self) -> None:
        """Emit nothing any more."""
        self._timer.cancel()
        with self._lock:
            self._is_shown = False

    def _show(self) -> None:
        with self._lock:
            if not self._timer.finished.is_set():
                self._is_shown = True
                self._emit()

    def _emit(self) -> None:
        self._emitted_at = time.monotonic()
        payload = {
            "stage": self._stage,
            "stage_percent": round(100 * self._share, 1),
            "percent": page_percent(self._stage, self._share),
        }
        _emit(self._request, PROGRESS, payload)


def emit_preview(request: PageRequest, page: IngestedPage, preview: ArtifactRef) -> None:
    """Emit what clients can show of a page before it is enhanced; `preview` has the address that it was published under."""
    payload = {
        "comic_id": request.origin.comic_id,
        "panel_id": request.origin.panel_id,
        "tool": request.origin.tool,
        "metadata": request.origin.metadata,
        "width": page.source.width,
        "height": page.source.height,
        "placeholder": page.placeholder and page.placeholder.model_dump(),
        "preview": preview.model_dump(mode="json"),
    }
    _emit(request, PREVIEWED, payload)


def emit_page_end(
    request: PageRequest, result: PageResult, *, callback_id: str | None = None, **more: Any
) -> None:
    """Emit how a job ended, with its result; `callback_id` names its recorded callback."""
    _emit(request, end_event(result), {**_result_payload(request, result, callback_id), **more})


def _result_payload(request: PageRequest, result: PageResult, callback_id: str | None) -> dict[str, Any]:
    return {
        "comic_id": request.origin.comic_id,
        "panel_id": request.origin.panel_id,
        "tool": request.origin.tool,
        "metadata": request.origin.metadata,
        "result": result.model_dump(mode="json"),
        **({} if callback_id is None else {CALLBACK_ID: callback_id}),
    }


def decision_event(identity: str, record: JobRecord, callback_id: str | None) -> dict[str, Any]:
    """The event of a person's decision on a page, in the format of Prefect's API; the server stores an identity once."""
    request, result = record.request, record.result
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        "occurred": datetime.now(UTC).isoformat(),
        "event": end_event(result),
        "resource": {
            "prefect.resource.id": f"comic.job.{request.job_id}",
            "comic.job-id": request.job_id,
        },
        "payload": {
            "job_id": request.job_id,
            "owner": request.origin.owner,
            **_result_payload(request, result, callback_id),
        },
    }


def book_decision_event(identity: str, result: BookResult) -> dict[str, Any]:
    """The event of a person's decision on a book, as `decision_event`."""
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        "occurred": datetime.now(UTC).isoformat(),
        "event": BOOK_REJECTED if result.was_rejected else BOOK_APPROVED,
        "resource": {"prefect.resource.id": _book_resource(result.out)},
        "payload": {"result": result.model_dump(mode="json")},
    }


def batch_event(batch: Batch, summary: BatchSummary, callback_id: str | None) -> dict[str, Any]:
    """The event of a batch that has ended, as `decision_event`."""
    digest = job_digest(batch.key)
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"batch:{digest}")),
        "occurred": datetime.now(UTC).isoformat(),
        "event": BATCH_ENDED,
        "resource": {"prefect.resource.id": f"comic.batch.{batch.batch_id}"},
        "payload": {
            "batch_id": batch.batch_id,
            "owner": batch.origin.owner,
            "comic_id": batch.origin.comic_id,
            "tool": batch.origin.tool,
            "metadata": batch.origin.metadata,
            "batch": summary.model_dump(mode="json"),
            **({} if callback_id is None else {CALLBACK_ID: callback_id}),
        },
    }


def _book_resource(out: str) -> str:
    return f"comic.book.{digest_of(out)[:24]}"


def emit_book_end(request: BookRequest, result: BookResult) -> None:
    """Emit that a book is enhanced."""
    payload = {"run_id": request.run_id, "result": result.model_dump(mode="json")}
    _emit_of_run(BOOK_ENHANCED, _book_resource(request.out), payload)


def emit_run_progress(event: RunProgress, share: float, description: str) -> None:
    """Emit how much of the current run of a book or a backfill is done, `share` in [0, 1]."""
    run = str(runtime.flow_run.id)
    payload = {"flow_run_id": run, "percent": round(100 * share, 1), "description": description}
    _emit_of_run(event, f"comic.flow-run.{run}", payload)


def _emit_of_run(event: str, resource: str, payload: dict[str, Any]) -> None:
    """Queue an event of the current run. A failure is a warning: an event must not fail a book."""
    try:
        emit_event(
            event,
            resource={"prefect.resource.id": resource, "comic.flow-run-id": str(runtime.flow_run.id)},
            payload=payload,
        )
    except Exception as error:  # noqa: BLE001 - as above
        logger.warning("event %s of %s was not emitted: %s", event, resource, type(error).__name__)


def _emit(request: PageRequest, event: str, payload: dict[str, Any]) -> None:
    """Queue an event. A failure is a warning: an event must not fail the page."""
    run = runtime.flow_run.root_flow_run_id or runtime.flow_run.id
    try:
        emit_event(
            event,
            resource={
                "prefect.resource.id": f"comic.job.{request.job_id}",
                "comic.job-id": request.job_id,
                "comic.flow-run-id": str(run),
            },
            payload={
                "job_id": request.job_id,
                "owner": request.origin.owner,
                "flow_run_id": str(run),
                **payload,
            },
        )
    except Exception as error:  # noqa: BLE001 - as above
        logger.warning("event %s of job %s was not emitted: %s", event, request.job_id, type(error).__name__)


async def read_event(event_id: str) -> dict[str, Any]:
    """Read a stored event from the server, which stores it with a delay; empty if the server does not have it."""
    wanted = {"filter": {"id": {"id": [event_id]}}, "limit": 1}
    async with get_client() as client:
        for _ in range(_EVENT_LOOKUPS):
            found = (await client.request("POST", "/events/filter", json=wanted)).json()["events"]
            if found:
                return dict(found[0])
            await anyio.sleep(_EVENT_LOOKUP_INTERVAL_SECONDS)
    return {}


def may_emit_again(event: Mapping[str, Any], reason: str) -> bool:
    """Did the server refuse a run for this event because it was busy, and are emissions left?"""
    payload = event.get("payload") or {}
    return bool(event and _SERVER_BUSY.search(reason) and int(payload.get(_EMISSIONS) or 0) < MAX_EMISSIONS)


async def emit_again(event: Mapping[str, Any]) -> None:
    """Emit an event once more, for the same job, and count the emission in its payload."""
    payload = event["payload"]
    again = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event["event"],
        "resource": event["resource"],
        "payload": {
            **payload,
            "job_id": payload.get("job_id") or event["id"],
            _EMISSIONS: int(payload.get(_EMISSIONS) or 0) + 1,
        },
    }
    await anyio.sleep(EMISSION_DELAY_SECONDS)
    async with get_client() as client:
        await client.request("POST", "/events", json=[again])
