"""Routes of jobs: process, status, variants, once more, list, cancel."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from panelworks.errors import Rejected
from panelworks.sources.stored import stored_original
from service.gateway.access import GuardedRoute
from service.gateway.answers import finished, job_of, run_of, summary_of
from service.gateway.bodies import read_page
from service.gateway.shapes import Again, Job, JobList, JobStatus, ProcessRequest, UploadFields
from service.gateway.state import GatewayState, State
from service.gateway.submission import Known, Started

router = APIRouter(prefix="/api/enhancement", tags=["enhancement"], route_class=GuardedRoute)

Wait = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for the end of the job.")]
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ProcessRequest.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        **UploadFields.model_json_schema()["properties"],
                    },
                }
            },
        },
    }
}


@router.post("/process", response_model=Job, responses={202: {"model": Job}}, openapi_extra=_BODY)
async def process(request: Request, state: State, wait: Wait = 0) -> Response:
    """Process a page: named in JSON, or uploaded as multipart `file` with the same fields beside it.

    200 with the result when it is known (or known within `wait` seconds), else 202 with the job's id.
    """
    asked = await read_page(request, state.settings)
    if isinstance(asked, ProcessRequest):
        answer = await state.submission.submit(asked)
    else:
        answer = await state.submission.submit_upload(*asked)
    return await answered(answer, state, wait)


@router.get("/status/{job_id}")
async def status(job_id: str, state: State) -> Job:
    """Where a job is; its result and links when it has ended."""
    return await job_of(job_id, state)


@router.get("/{job_id}/variants/{name}", response_class=Response)
async def variant(job_id: str, name: str, state: State) -> Response:
    """A variant of a finished job, or its `master`."""
    record = await asyncio.to_thread(state.engine.jobs.job, job_id)
    if record is None:
        raise Rejected("unknown_job", "There is no finished job of this id.")
    data, media_type = await asyncio.to_thread(
        state.engine.jobs.delivered, record.result, record.request.out, name
    )
    return Response(data, media_type=media_type)


@router.post("/{job_id}/re-enhance", response_model=Job, responses={202: {"model": Job}})
async def re_enhance(job_id: str, again: Again, state: State, wait: Wait = 0) -> Response:
    """Process the page of a finished job once more, with other options."""
    record = await asyncio.to_thread(state.engine.jobs.job, job_id)
    if record is None or record.result.source is None:
        raise Rejected("unknown_job", "There is no finished job of this id whose page could be read.")
    stored = stored_original(record.result.source)
    origin = record.request.origin
    fields = UploadFields(
        options=again.options,
        priority=again.priority,
        force=again.force,
        callback=again.callback,
        tool=origin.tool,
        panel_id=origin.panel_id,
        comic_id=origin.comic_id,
        metadata=origin.metadata,
    )
    return await answered(await state.submission.again(stored, record.request.out, fields), state, wait)


@router.get("")
async def listed(
    state: State,
    status: Annotated[JobStatus | None, Query(description="Only jobs that are here.")] = None,
    tool: Annotated[str | None, Query(description="Only jobs that came over HTTP from this tool.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> JobList:
    """Jobs, the newest first."""
    runs = await state.jobs.listed(status=status, tool=tool, limit=limit, offset=offset)
    return JobList(jobs=tuple(summary_of(run) for run in runs), limit=limit, offset=offset)


@router.delete("/{job_id}", status_code=202)
async def cancel(job_id: str, state: State) -> Job:
    """Cancel a job: at once while it waits, within seconds while it runs."""
    run = await run_of(job_id, state)
    if run is None:
        raise Rejected("unknown_job", "There is no such job.")
    await state.jobs.cancel(run)
    return await job_of(job_id, state)


async def answered(answer: Known | Started, state: GatewayState, wait: float) -> Response:
    """200 with a known result, else 202; in between the wait that was asked for."""
    if isinstance(answer, Known):
        return JSONResponse(finished(answer.result).model_dump(mode="json"))
    state.hub.expect(answer.job_id)
    if wait:
        await ended(answer.job_id, state, wait)
    job = await job_of(answer.job_id, state)
    return JSONResponse(job.model_dump(mode="json"), 200 if job.result is not None else 202)


async def ended(job_id: str, state: GatewayState, seconds: float) -> bool:
    """Wait for the end of a job; false when it has not come in time."""
    try:
        async with asyncio.timeout(seconds):
            async for message in state.hub.follow(job_id, after=0):
                if message["type"] == "end":
                    return True
    except TimeoutError:
        pass
    return False
