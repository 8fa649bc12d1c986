"""Routes of VisionCloud's shape: upload a picture, or several, and learn where the better one lies."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request

from panelworks.errors import PanelworksError, Rejected
from panelworks.records import PageResult
from service.gateway.access import By, Caller, GuardedRoute
from service.gateway.answers import job_of
from service.gateway.bodies import read_form
from service.gateway.enhancement import ended
from service.gateway.problems import status_of
from service.gateway.shapes import BatchAnswer, UploadAnswer, UploadFields, UploadResult
from service.gateway.state import GatewayState, State
from service.gateway.submission import Known, Upload

router = APIRouter(prefix="/api/images", tags=["images"], route_class=GuardedRoute)

Wait = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for the result.")]


@router.post("/upload")
async def upload(request: Request, state: State, caller: By, wait: Wait = 60) -> UploadAnswer:
    """Upload a picture (multipart `file`); the answer says where its enhanced version lies."""
    uploads, fields = await read_form(request, state.settings)
    if len(uploads) != 1:
        raise Rejected("bad_request", "The form holds one picture, in the field 'file'.")
    return await _taken(uploads[0], fields, state, caller, wait)


@router.post("/upload/batch")
async def upload_batch(request: Request, state: State, caller: By, wait: Wait = 60) -> BatchAnswer:
    """Upload several pictures (multipart `files`); one that is refused does not stop the others."""
    uploads, fields = await read_form(request, state.settings)
    if not uploads:
        raise Rejected("bad_request", "The form holds pictures, in the field 'files'.")
    answers = await asyncio.gather(*(_taken_or_told(one, fields, state, caller, wait) for one in uploads))
    good = sum(answer.success for answer in answers)
    return BatchAnswer(
        success=good == len(answers),
        message=f"{good} of {len(answers)} pictures were taken.",
        results=tuple(answers),
    )


async def _taken_or_told(
    one: Upload, fields: UploadFields, state: GatewayState, caller: Caller, wait: float
) -> UploadAnswer:
    try:
        return await _taken(one, fields, state, caller, wait)
    except PanelworksError as error:
        told = error.message if status_of(error) < 500 else "The server could not take this picture now."
        return UploadAnswer(success=False, message=told)


async def _taken(
    one: Upload, fields: UploadFields, state: GatewayState, caller: Caller, wait: float
) -> UploadAnswer:
    answer = await state.submission.submit_upload(one, fields, caller)
    if isinstance(answer, Known):
        return _delivered(answer.result)
    if wait and await ended(answer.key, state, wait):
        job = await job_of(answer.key, state)
        if job.result is not None and job.result.status == "success":
            return _delivered(job.result)
        reason = job.error.message if job.error else "The picture could not be processed."
        return UploadAnswer(success=False, message=reason)
    pending = UploadResult(original_key=one.filename, status="processing", job_id=answer.key.job_id)
    return UploadAnswer(success=True, message="The picture was taken and is being processed.", result=pending)


def _delivered(result: PageResult) -> UploadAnswer:
    return UploadAnswer(
        success=True,
        message="The picture was processed." if not result.cached else "The picture was processed before.",
        result=UploadResult(
            original_key=result.source.sha256 if result.source else "",
            status=result.route or "",
            folder=result.route,
            s3_url=result.master.uri if result.master else None,
            quality_score=result.quality.after.overall if result.quality else None,
            upscale_scale=result.scale,
            processed_at=datetime.now(UTC),
            job_id=result.job_id,
        ),
    )
