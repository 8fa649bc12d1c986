"""Routes of jobs: process, report a panel, status, variants, re-enhance, list, cancel."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.errors import Rejected
from panelworks.page.callbacks import check_callback
from panelworks.page.direct import new_job_id
from panelworks.page.entry_points import admit
from panelworks.telemetry import current_traceparent
from service.gateway.access import By, Caller, GuardedRoute
from service.gateway.answers import (
    Owner,
    finished,
    job_of,
    key_for,
    pending_summary,
    progress_url,
    record_of,
    run_of,
    status_url,
    summary_of,
)
from service.gateway.bodies import drop_json, form_content, read_page, resolved_schema
from service.gateway.outbox import event_id
from service.gateway.problems import status_of_job
from service.gateway.schemas import (
    EventAccepted,
    GeneratedEvent,
    Job,
    JobList,
    JobStatus,
    ProcessRequest,
    ReEnhanceRequest,
)
from service.gateway.state import GatewayState, State
from service.gateway.submission import Known, Started, name_job, stored_source_of

router = APIRouter(prefix="/api/enhancement", tags=["enhancement"], route_class=GuardedRoute)
events_router = APIRouter(prefix="/api/generation", tags=["generation"], route_class=GuardedRoute)

MAX_WAITS: Final = 50
"""Requests of one owner that wait for the end of a job (`?wait`); further ones receive a 202 at once."""
_RUN_SECONDS: Final = 10.0
"""How long a cancellation waits for the run of a job that was accepted a moment ago."""
MAX_OFFSET: Final = 1_000_000
Wait = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for the end of the job.")]
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": resolved_schema(ProcessRequest.model_json_schema())},
            **form_content("file"),
        },
    }
}


@router.post("/process", response_model=Job, responses={202: {"model": Job}}, openapi_extra=_BODY)
async def process(request: Request, state: State, caller: By, wait: Wait = 0) -> Response:
    """Process a page: named in JSON, or uploaded as multipart `file` with the same fields beside it.

    200 with the result when it is known, or known within `wait` seconds; else 202 with the job's id.
    """
    return await respond(await _submit(request, state, caller), state, wait)


async def _submit(request: Request, state: GatewayState, caller: Caller) -> Known | Started:
    """Submit a page. Its picture is dropped from memory before the wait for its result."""
    try:
        body = await read_page(request, state.settings)
        if isinstance(body, ProcessRequest):
            return await state.submission.submit(body, caller)
        return await state.submission.submit_upload(*body, caller)
    finally:
        drop_json(request)


@events_router.post("/events", status_code=202)
async def events(event: GeneratedEvent, state: State, caller: By) -> EventAccepted:
    """Report a generated panel. Its enhancement starts once, however often the event is posted."""
    job_id = event.job_id or new_job_id()
    name_job(job_id)
    check_callback(event.callback, state.settings)
    await state.submission.check_source(event.source, caller)
    request = PageRequest(
        source=event.source,
        out=state.settings.default_out,
        options=event.options,
        job_id=job_id,
        force=event.force,
        origin=Origin.of_client(
            event, owner=caller.owner, entry_point="event", traceparent=current_traceparent()
        ),
    )
    await asyncio.to_thread(admit, request, state.settings)
    if event.source.startswith("data:"):  # named from here on: Prefect accepts parameters up to 512 KiB
        page = await asyncio.to_thread(state.engine.identify, request)
        request = request.model_copy(update={"source": stored_source_of(page)})
    known = await state.outbox.accept(request, event.priority)
    job = known or await asyncio.to_thread(state.engine.accepted.find, request.key)
    return EventAccepted(
        event_id=event_id(job) if job else job_id,
        job_id=job_id,
        status_url=status_url(job_id),
        progress_url=progress_url(job_id),
    )


@router.get("/status/{job_id}")
async def status(job_id: str, state: State, caller: By, owner: Owner = None) -> Job:
    """The status of a job; its result and links when it has ended."""
    return await job_of(await key_for(job_id, caller, owner, state), state)


@router.post("/{job_id}/re-enhance", response_model=Job, responses={202: {"model": Job}})
async def re_enhance(
    job_id: str, body: ReEnhanceRequest, state: State, caller: By, wait: Wait = 0, owner: Owner = None
) -> Response:
    """Process the page of a finished job again, with other options. The new job belongs to the caller."""
    record = await record_of(job_id, caller, owner, state)
    answer = await state.submission.submit_again(record, body, caller)
    return await respond(answer, state, wait)


@router.get("")
async def listed(
    state: State,
    caller: By,
    status: Annotated[JobStatus | None, Query(description="Only jobs with this status.")] = None,
    tool: Annotated[str | None, Query(description="Only jobs of this tool.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0,
) -> JobList:
    """Jobs, the newest first: those of the key, all of them for an admin key."""
    mine = None if caller.admin else caller.owner
    waiting = [
        job
        for job in (await state.outbox.pending() if status in (None, "queued") else [])
        if (mine is None or job.request.origin.owner == mine) and tool in (None, job.request.origin.tool)
    ]
    shown = waiting[offset : offset + limit]
    more = limit - len(shown)
    runs = await state.jobs.list_runs(
        mine, status=status, tool=tool, limit=more, offset=max(0, offset - len(waiting))
    ) if more else []  # fmt: skip
    jobs = (*(pending_summary(job) for job in shown), *(summary_of(run, state) for run in runs))
    return JobList(jobs=jobs, limit=limit, offset=offset)


@router.delete("/{job_id}", status_code=202)
async def cancel(job_id: str, state: State, caller: By, owner: Owner = None) -> Job:
    """Cancel a job: at once while it waits, within seconds while it runs, and as soon as Prefect has its run."""
    key = await key_for(job_id, caller, owner, state)
    accepted = await asyncio.to_thread(state.engine.accepted.find, key)
    deadline = asyncio.get_running_loop().time() + _RUN_SECONDS
    while accepted is not None and not accepted.settled:  # its run is being created
        if asyncio.get_running_loop().time() > deadline:
            await asyncio.to_thread(state.engine.accepted.request_cancellation, accepted)
            accepted = await asyncio.to_thread(state.engine.accepted.find, key)
            if accepted is not None and not accepted.settled:
                return await job_of(key, state)
            break
        await asyncio.sleep(0.1)
        accepted = await asyncio.to_thread(state.engine.accepted.find, key)
    run = await run_of(key, state, accepted)
    if run is None:
        await job_of(key, state)
        raise Rejected("job_ended", "This job has ended.")
    await asyncio.to_thread(state.engine.accepted.cancel_run, str(run.id))
    await state.jobs.cancel(run)
    return await job_of(key, state)


async def respond(answer: Known | Started, state: GatewayState, wait: float) -> Response:
    """200 with a known result; else 202, after the wait that the client requested."""
    if isinstance(answer, Known):
        return JSONResponse((await finished(answer.result, state.settings)).model_dump(mode="json"))
    if wait:
        await wait_for_end(answer.key, state, wait)
    job = await job_of(answer.key, state)
    code = 202 if job.result is None else 200
    if job.status in ("failed", "cancelled"):
        code = status_of_job(job.error)
    return JSONResponse(job.model_dump(mode="json"), code)


async def wait_for_end(key: JobKey, state: GatewayState, seconds: float) -> bool:
    """Wait for the end of a job; False when it has not ended in time, or too many requests of its owner wait."""
    waits = state.event_stream.waits
    if waits[key.owner] >= MAX_WAITS:
        return False
    waits[key.owner] += 1
    try:
        async with asyncio.timeout(seconds):
            async for message in state.event_stream.follow(key, after=0):
                if message["type"] == "end":
                    return True
    except TimeoutError:
        pass
    finally:
        waits[key.owner] -= 1
        if not waits[key.owner]:
            del waits[key.owner]
    return False
