"""The queue: what waits, runs and has failed, live; adding pages, cancelling and repeating them."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import FormData

from panelworks.domain.fields import Frozen
from panelworks.domain.request import JobKey
from panelworks.errors import PanelworksError, Rejected
from panelworks.page.presets import presets_of
from service.gateway.access import By, Caller
from service.gateway.answers import Owner, pending_summary, record_of, summary_of
from service.gateway.batches import accept_batch, is_batch
from service.gateway.bodies import Upload, read_fields, read_form
from service.gateway.enhancement import cancel, re_enhance
from service.gateway.jobs import run_url
from service.gateway.result_index import ResultRow
from service.gateway.schemas import JobStatus, JobSummary, ProcessRequest, ReEnhanceRequest, UploadFields
from service.gateway.state import GatewayState, State
from service.studio.callers import FORM_FIELD, StudioRoute
from service.studio.live import LiveRows, send_rows
from service.studio.rendering import render_fragment, render_page, seen_by

logger = logging.getLogger(__name__)
router = APIRouter(route_class=StudioRoute, include_in_schema=False)
MAX_SHOWN_JOBS: Final = 100
_MAX_FAILED: Final = 10
_MAX_FINISHED: Final = 5
_MAX_SHOWN_ROWS: Final = 10
"""Refused rows of a batch that are shown."""
_LIST_SECONDS: Final = 5.0
"""Age at which the list is read again without an event: other gateways accept jobs, and an event may be lost."""
_FIRST_ROWS_SECONDS: Final = 0.15
"""How long the page waits for its rows."""


class QueuedJob(Frozen):
    """A job that has not ended."""

    summary: JobSummary
    run_url: str | None
    stage: str | None = None
    percent: float = 0
    seconds_left: float | None = None
    preview: str | None = None
    """Version of the preview that is shown; None: the page was not read yet."""


@dataclass(frozen=True)
class Listing:
    """What Prefect and the ledger said at a time; the progress of jobs is known without asking them."""

    read_at: float
    """In monotonic seconds."""
    changes: int
    """`EventStream.run_changes` at that time."""
    waiting: list[QueuedJob]
    """Accepted jobs without a run."""
    runs: list[QueuedJob]
    finished: tuple[ResultRow, ...]
    failed: tuple[ResultRow, ...]
    has_all_failed: bool
    """Was the whole ledger read?"""
    trouble: str

    @property
    def jobs(self) -> list[QueuedJob]:
        """The jobs that wait or run, each once."""
        jobs = (*self.waiting, *self.runs)
        found = {(job.summary.owner, job.summary.job_id): job for job in jobs}
        return list(found.values())[:MAX_SHOWN_JOBS]


class QueueView:
    """The queue as each caller sees it, rendered once for all of the caller's browsers."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._listings: dict[str | None, Listing] = {}
        self._rendered: dict[str | None, tuple[int, str]] = {}
        """Of each owner: `EventStream.changes` and the rows."""
        self.live = LiveRows(state.event_stream, self.html)
        self._lock = asyncio.Lock()

    async def html(self, owner: str | None) -> str:
        """The rows of the queue of an owner; None: of all."""
        async with self._lock:
            stream, listing = self._state.event_stream, self._listings.get(owner)
            if (
                listing is None
                or listing.changes != stream.run_changes
                or time.monotonic() - listing.read_at >= _LIST_SECONDS
            ):
                listing = self._listings[owner] = await self._list(owner, stream.run_changes)
                self._rendered.pop(owner, None)
            changes, html = self._rendered.get(owner, (-1, ""))
            if changes != stream.changes:
                changes, html = stream.changes, self._render(listing)
                self._rendered[owner] = changes, html
        return html

    async def soon(self, owner: str | None) -> str:
        """The rows of the queue, or those of a moment ago if Prefect takes long; the live rows follow."""
        reading = asyncio.create_task(self.html(owner))
        await asyncio.wait({reading}, timeout=_FIRST_ROWS_SECONDS)
        if reading.done():
            return reading.result()
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._rendered.get(owner, (0, render_fragment("reading.html")))[1]

    def _render(self, listing: Listing) -> str:
        jobs = sorted(
            (_with_progress(job, self._state) for job in listing.jobs),
            key=lambda job: (job.summary.status != "running", str(job.summary.created)),
        )
        return render_fragment(
            "queue_rows.html",
            jobs=jobs,
            finished=listing.finished,
            failed=listing.failed,
            trouble=listing.trouble,
        )

    async def _list(self, owner: str | None, changes: int) -> Listing:
        before = self._listings.get(owner)
        runs, trouble = (before.runs if before else []), ""
        finished, failed = (before.finished, before.failed) if before else ((), ())
        is_known = False
        waiting = await read_waiting(self._state, owner)
        try:
            runs = await read_runs(self._state, owner)
            # Listing the files of a large ledger takes a tenth of a second.
            is_known = before is not None and before.has_all_failed and before.changes == changes
            if not is_known:
                results = self._state.results
                failed, is_known = await results.find_unresolved(owner, _MAX_FAILED)
                finished = await results.find_recent(owner, _MAX_FINISHED)
        except PanelworksError as error:  # what was known a moment ago is still shown
            trouble = error.message
        return Listing(time.monotonic(), changes, waiting, runs, finished, failed, is_known, trouble)


def view_of(request: Request) -> QueueView:
    """The queue view of the running gateway."""
    state = request.app.state
    if not hasattr(state, "queue_view"):
        state.queue_view = QueueView(state.gateway)
    view: QueueView = state.queue_view
    return view


async def read_waiting(state: GatewayState, owner: str | None) -> list[QueuedJob]:
    """The accepted jobs that have no run yet; None: of all owners."""
    pending = await state.outbox.pending()
    mine = [job for job in pending if owner is None or job.request.origin.owner == owner]
    return [QueuedJob(summary=pending_summary(job), run_url=None) for job in mine]


async def read_runs(state: GatewayState, owner: str | None) -> list[QueuedJob]:
    """The runs of jobs that run or wait; None: of all owners.

    Raises:
        PanelworksError: Prefect does not answer.
    """
    found = []
    statuses: tuple[JobStatus, ...] = ("running", "queued")
    for status in statuses:
        for run in await state.jobs.list_runs(
            owner, status=status, tool=None, limit=MAX_SHOWN_JOBS, offset=0
        ):
            summary = summary_of(run, state)
            if summary.status in statuses:
                found.append(QueuedJob(summary=summary, run_url=run_url(run.id)))
    return found


def _with_progress(job: QueuedJob, state: GatewayState) -> QueuedJob:
    key = JobKey(job.summary.owner, job.summary.job_id)
    early = state.event_stream.preview_of(key)
    if early is not None:
        job = job.model_copy(update={"preview": early["preview"]["sha256"][:12]})
    progress = state.event_stream.progress_of(key)
    if progress is None or job.summary.status != "running":
        return job
    first, last = progress
    percent = float(last["percent"])
    elapsed = (last["cursor"] - first["cursor"]) / 1e6
    gained = percent - float(first["percent"])
    left = elapsed * (100 - percent) / gained if gained > 0 else None
    return job.model_copy(update={"stage": last["stage"], "percent": percent, "seconds_left": left})


@router.get("/")
async def queue(request: Request, state: State, caller: By) -> Response:
    """What runs and waits, and the form that adds pages."""
    rows = await view_of(request).soon(seen_by(caller))
    return render_page(request, "queue.html", rows=rows, presets=tuple(presets_of(state.settings)))


@router.get("/studio/queue")
async def queue_events(request: Request, caller: By) -> Response:
    """The rows of the queue as server-sent events, whenever they change."""
    return send_rows(view_of(request).live.follow(seen_by(caller)))


@router.post("/studio/add")
async def add(request: Request, state: State, caller: By) -> Response:
    """Add pages: files of a form, or an address."""
    form, own_fields = await request.form(), frozenset({FORM_FIELD, "source"})
    source = form.get("source")
    accepted, messages = 0, list[str]()
    if is_batch(form):
        uploads: list[Upload] = []
        texts = ((name, value) for name, value in form.multi_items() if isinstance(value, str))
        try:
            fields = await read_fields((name, value) for name, value in texts if name not in own_fields)
            accepted, messages = await _add_batch(form, state, caller, own_fields)
        finally:
            await form.close()
    else:
        uploads, fields = await read_form(request, state.settings, ignored=own_fields)
    given = fields.model_copy(update={"tool": "studio"})
    for upload in uploads:
        if not upload.data and upload.filename in ("", "page"):
            continue  # the browser sends an empty file if none was chosen
        try:
            await state.submission.submit_upload(upload, given, caller)
            accepted += 1
        except PanelworksError as error:
            messages.append(f"{upload.filename}: {error.message}")
    if isinstance(source, str) and source.strip():
        try:
            body = ProcessRequest(source=source.strip(), **_set_fields(given))
            await state.submission.submit(body, caller)
            accepted += 1
        except PanelworksError as error:
            messages.append(f"{source.strip()[:80]}: {error.message}")
    if not accepted and not messages:
        messages.append("Choose at least one file, or enter an address.")
    if "hx-request" not in request.headers and not messages:
        return RedirectResponse("/", 303)
    html = render_fragment("added.html", accepted=accepted, messages=messages)
    if "hx-request" in request.headers:
        return Response(html, media_type="text/html")
    rows = await view_of(request).html(seen_by(caller))
    return render_page(
        request, "queue.html", 400, rows=rows, presets=tuple(presets_of(state.settings)), added=html
    )


async def _add_batch(
    form: FormData, state: GatewayState, caller: Caller, own_fields: frozenset[str]
) -> tuple[int, list[str]]:
    """Add the batch of a form; returns the number of its pages, and what is wrong with the others."""
    try:
        batch = await accept_batch(form, state, caller, tool="studio", ignored=own_fields)
    except PanelworksError as error:
        return 0, [error.message]
    refused = [row for row in batch.rows if row.error is not None]
    messages = [f"{row.name}: {row.error.message}" for row in refused[:_MAX_SHOWN_ROWS] if row.error]
    if len(refused) > _MAX_SHOWN_ROWS:
        messages.append(f"{len(refused) - _MAX_SHOWN_ROWS} further files or rows were refused.")
    return len(batch.rows) - len(refused), messages


def _set_fields(fields: UploadFields) -> dict[str, object]:
    return {name: getattr(fields, name) for name in fields.model_fields_set}


@router.post("/studio/jobs/{job_id}/cancel")
async def cancel_job(
    job_id: str, request: Request, state: State, caller: By, owner: Owner = None
) -> Response:
    """Cancel a job."""
    await cancel(job_id, state, caller, owner)
    return RedirectResponse("/", 303)


@router.post("/studio/jobs/{job_id}/retry")
async def retry_job(job_id: str, request: Request, state: State, caller: By, owner: Owner = None) -> Response:
    """Process a page again that failed."""
    record = await record_of(job_id, caller, owner, state)
    if record.result.source is not None:
        again = ReEnhanceRequest(options=record.request.options, force=True)
        await re_enhance(job_id, again, state, caller, 0, owner)
    elif record.request.source.startswith(("https://", "http://", "s3://")):
        body = ProcessRequest(
            source=record.request.source, options=record.request.options, tool="studio", force=True
        )
        await state.submission.submit(body, caller)
    else:
        raise Rejected("not_found", "The page was not read; upload it again.")
    return RedirectResponse("/", 303)
