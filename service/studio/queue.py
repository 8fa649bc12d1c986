"""The queue: what waits, runs and has failed, live; adding pages, cancelling and repeating them."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from panelworks.domain.fields import Frozen
from panelworks.domain.formats import PRESETS
from panelworks.domain.request import JobKey
from panelworks.errors import PanelworksError, Rejected, Transient
from service.gateway.access import By, Caller
from service.gateway.answers import Owner, pending_summary, record_of, summary_of
from service.gateway.bodies import read_form
from service.gateway.enhancement import cancel, re_enhance
from service.gateway.jobs import run_url
from service.gateway.result_index import ResultQuery
from service.gateway.schemas import JobSummary, ProcessRequest, ReEnhanceRequest, UploadFields
from service.gateway.state import GatewayState, State
from service.studio.callers import FORM_FIELD, StudioRoute
from service.studio.rendering import render_fragment, render_page

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
MAX_SHOWN_JOBS: Final = 100
_MAX_FAILED: Final = 10
_RENDER_SECONDS: Final = 0.4
"""Between two looks at the queue. All browsers of a caller share one."""
_FIRST_ROWS_SECONDS: Final = 0.15
"""How long the page waits for its rows."""
_KEEP_ALIVE_SECONDS: Final = 15.0


class QueuedJob(Frozen):
    """A job that has not ended."""

    summary: JobSummary
    stage: str | None
    percent: float
    seconds_left: float | None
    run_url: str | None


class QueueView:
    """The queue as each caller sees it, rendered once for all of the caller's browsers."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._rendered: dict[str | None, tuple[float, str]] = {}
        self._lock = asyncio.Lock()

    async def html(self, caller: Caller) -> str:
        """The rows of the queue."""
        owner = None if caller.admin else caller.owner
        async with self._lock:
            at, html = self._rendered.get(owner, (-_RENDER_SECONDS, ""))
            if time.monotonic() - at >= _RENDER_SECONDS:
                html = await self._render(owner)
                self._rendered[owner] = time.monotonic(), html
        return html

    async def soon(self, caller: Caller) -> str:
        """The rows of the queue, or those of a moment ago if Prefect takes long; the live rows follow."""
        reading = asyncio.create_task(self.html(caller))
        await asyncio.wait({reading}, timeout=_FIRST_ROWS_SECONDS)
        if reading.done():
            return reading.result()
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._rendered.get(
            None if caller.admin else caller.owner, (0, render_fragment("reading.html"))
        )[1]

    async def _render(self, owner: str | None) -> str:
        trouble = ""
        jobs: list[QueuedJob] = []
        try:
            jobs = await read_queue(self._state, owner)
        except PanelworksError as error:
            trouble = error.message
        query = ResultQuery(status="error", limit=_MAX_FAILED)
        try:
            failed = (await self._state.results.find(query, owner)).results
        except Transient as error:
            failed, trouble = (), error.message
        return render_fragment("queue_rows.html", jobs=jobs, failed=failed, trouble=trouble)


def view_of(request: Request) -> QueueView:
    """The queue view of the running gateway."""
    state = request.app.state
    if not hasattr(state, "queue_view"):
        state.queue_view = QueueView(state.gateway)
    view: QueueView = state.queue_view
    return view


async def read_queue(state: GatewayState, owner: str | None) -> list[QueuedJob]:
    """The jobs that run or wait, running ones first; None: of all owners.

    Raises:
        PanelworksError: Prefect does not answer.
    """
    waiting = [
        job for job in await state.outbox.pending() if owner is None or job.request.origin.owner == owner
    ]
    found = [
        QueuedJob(summary=pending_summary(job), stage=None, percent=0, seconds_left=None, run_url=None)
        for job in waiting
    ]
    known = {job.summary.job_id for job in found}
    for status in ("running", "queued"):
        for run in await state.jobs.list_runs(
            owner, status=status, tool=None, limit=MAX_SHOWN_JOBS, offset=0
        ):
            summary = summary_of(run, state)
            if summary.status in ("running", "queued") and summary.job_id not in known:
                known.add(summary.job_id)
                found.append(_with_progress(summary, state, run_url(run.id)))
    return sorted(found, key=lambda job: (job.summary.status != "running", -job.percent))[:MAX_SHOWN_JOBS]


def _with_progress(summary: JobSummary, state: GatewayState, url: str | None) -> QueuedJob:
    progress = state.event_stream.progress_of(JobKey(summary.owner, summary.job_id))
    if progress is None:
        return QueuedJob(summary=summary, stage=None, percent=0, seconds_left=None, run_url=url)
    first, last = progress
    percent = float(last["percent"])
    elapsed = (last["cursor"] - first["cursor"]) / 1e6
    gained = percent - float(first["percent"])
    left = elapsed * (100 - percent) / gained if gained > 0 else None
    return QueuedJob(summary=summary, stage=last["stage"], percent=percent, seconds_left=left, run_url=url)


@router.get("/")
async def queue(request: Request, state: State, caller: By) -> Response:
    """What runs and waits, and the form that adds pages."""
    rows = await view_of(request).soon(caller)
    return render_page(request, "queue.html", rows=rows, presets=tuple(PRESETS))


@router.get("/studio/queue")
async def queue_events(request: Request, state: State, caller: By) -> Response:
    """The rows of the queue as server-sent events, whenever they change."""
    view = view_of(request)

    async def changes() -> AsyncIterator[str]:
        last, sent_at = "", 0.0
        while not await request.is_disconnected():
            html = await view.html(caller)
            digest = hashlib.sha256(html.encode()).hexdigest()
            if digest != last:
                last, sent_at = digest, time.monotonic()
                lines = "".join(f"data: {line}\n" for line in html.splitlines())
                yield f"{lines}\n"
            elif time.monotonic() - sent_at > _KEEP_ALIVE_SECONDS:
                sent_at = time.monotonic()
                yield ": still connected\n\n"
            await asyncio.sleep(_RENDER_SECONDS)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(changes(), media_type="text/event-stream", headers=headers)


@router.post("/studio/add")
async def add(request: Request, state: State, caller: By) -> Response:
    """Add pages: files of a form, or an address."""
    form = await request.form()
    source = form.get("source")
    uploads, fields = await read_form(request, state.settings, ignored=frozenset({FORM_FIELD, "source"}))
    given = fields.model_copy(update={"tool": "studio"})
    messages: list[str] = []
    accepted = 0
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
    rows = await view_of(request).html(caller)
    return render_page(request, "queue.html", 400, rows=rows, presets=tuple(PRESETS), added=html)


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
