"""Routes in the format of VisionCloud: upload one or several pictures, and receive the addresses of the results."""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from panelworks.domain.result import ArtifactRef, PageResult
from panelworks.errors import PanelworksError, Rejected
from panelworks.page.entry_points import admit
from panelworks.page.rules import DAMAGED
from panelworks.settings import Settings
from panelworks.sources.fetch import safe_stem
from panelworks.storage import open_folder
from panelworks.storage.headers import headers_of, public_url
from panelworks.storage.location import Location
from service.gateway.access import By, Caller, GuardedRoute
from service.gateway.answers import job_of, status_url
from service.gateway.batches import (
    BatchAccepted,
    accept_batch,
    batch_form,
    describe,
    is_batch,
    read_batch_form,
)
from service.gateway.bodies import Upload, form_body, is_form, read_form
from service.gateway.enhancement import wait_for_end
from service.gateway.problems import status_of
from service.gateway.schemas import BatchAnswer, UploadAnswer, UploadFields, UploadResult
from service.gateway.state import GatewayState, State
from service.gateway.submission import Known, make_page_request

router = APIRouter(prefix="/api/images", tags=["images"], route_class=GuardedRoute)

Wait = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for the result.")]
_REVIEW_FOLDER: Final = "couldn't_upscale"
_UNDECODABLE: Final = ("unsupported_format", "truncated", "damaged", "empty")
"""Codes of files that hold no picture that can be decoded."""


@router.post("/upload", openapi_extra=form_body("file"))
async def upload(
    request: Request, response: Response, state: State, caller: By, wait: Wait = 60
) -> UploadAnswer:
    """Upload a picture (multipart `file`); the response has the address of its enhanced version.

    When it takes longer than `wait` seconds, the answer is a 202 without a result whose `Location` has the job.
    """
    uploads, fields = await read_form(request, state.settings)
    if len(uploads) != 1:
        raise Rejected("bad_request", "The form holds one picture, in the field 'file'.")
    answer, job_id = await _answer(uploads[0], fields, state, caller, wait, str(request.base_url))
    if job_id is not None:
        response.status_code = 202
        response.headers["Location"] = status_url(job_id)
    return answer


@router.post(
    "/upload/batch",
    response_model=BatchAnswer,
    responses={202: {"model": BatchAccepted}},
    openapi_extra=batch_form(),
)
async def upload_batch(request: Request, state: State, caller: By, wait: Wait = 60) -> Response:
    """Upload several pictures (multipart `files`); one that is refused does not stop the others.

    A form with a ZIP archive, a `manifest` or a `batch_id` is a batch: a 202 whose `Location` has its progress.
    """
    if not is_form(request):
        raise Rejected("bad_request", "A batch is a form with files: multipart/form-data.")
    form = await read_batch_form(request)
    if is_batch(form):
        try:
            batch = await accept_batch(form, state, caller)
        finally:
            await form.close()
        answer = await describe(batch, state)
        return JSONResponse(answer.model_dump(mode="json"), 202, {"Location": answer.status_url})
    uploads, fields = await read_form(request, state.settings)
    if not uploads:
        raise Rejected("bad_request", "The form holds pictures, in the field 'files'.")
    base = str(request.base_url)
    answers = await asyncio.gather(
        *(_answer_or_error(one, fields, state, caller, wait, base) for one in uploads)
    )
    good = sum(answer.success for answer in answers)
    batch_answer = BatchAnswer(
        success=good == len(answers),
        message=f"{good} of {len(answers)} pictures were accepted.",
        results=tuple(answers),
    )
    return JSONResponse(batch_answer.model_dump(mode="json"))


async def _answer_or_error(
    one: Upload, fields: UploadFields, state: GatewayState, caller: Caller, wait: float, base: str
) -> UploadAnswer:
    try:
        return (await _answer(one, fields, state, caller, wait, base))[0]
    except PanelworksError as error:
        reason = error.message if status_of(error) < 500 else "The server could not process this picture now."
        return UploadAnswer(success=False, message=reason)


async def _answer(
    one: Upload, fields: UploadFields, state: GatewayState, caller: Caller, wait: float, base: str
) -> tuple[UploadAnswer, str | None]:
    """The response, and the id of the job when it has not ended."""
    try:
        answer = await state.submission.submit_upload(one, fields, caller)
    except Rejected as error:
        if error.code not in _UNDECODABLE:
            raise
        return await asyncio.to_thread(_store_for_review, one, fields, state, caller, error.message), None
    if isinstance(answer, Known):
        return _delivered(one, answer.result, state.settings, base), None
    if not (wait and await wait_for_end(answer.key, state, wait)):
        job_id = answer.key.job_id
        message = f"The picture was accepted and is being processed: {status_url(job_id)}"
        return UploadAnswer(success=True, message=message), job_id
    job = await job_of(answer.key, state)
    if job.result is not None and job.result.status == "success":
        return _delivered(one, job.result, state.settings, base), None
    reason = job.error.message if job.error else "The picture could not be processed."
    if job.error is not None and job.error.code in _UNDECODABLE:
        return await asyncio.to_thread(_store_for_review, one, fields, state, caller, reason), None
    return UploadAnswer(success=False, message=reason), None


def _delivered(one: Upload, result: PageResult, settings: Settings, base: str) -> UploadAnswer:
    enhanced = result.route != _REVIEW_FOLDER
    message = "The picture was processed before." if result.cached else "The picture was processed."
    local = f"{base.rstrip('/')}/api/enhancement/{quote(result.job_id, safe='')}/variants/master"
    return UploadAnswer(
        success=enhanced,
        message=message if enhanced else f"The picture was stored as it is: {_reason_not_enhanced(result)}.",
        result=UploadResult(
            original_key=one.filename,
            status="success" if enhanced else "error",
            folder=result.route,
            s3_url=_master_url(result.master, settings) or local if result.master else None,
            quality_score=result.quality.after.resolution if result.quality else None,
            upscale_scale=result.scale,
            processed_at=datetime.now(UTC),
        ),
    )


def _master_url(master: ArtifactRef, settings: Settings) -> str | None:
    """The address of a master at the CDN, or else in S3."""
    return public_url(master.uri, settings) or object_url(master.uri, settings)


def _reason_not_enhanced(result: PageResult) -> str:
    """The damage of the file, or the reason why every result was rejected."""
    damage = next((note for note in result.notes if note.startswith(DAMAGED)), None)
    reason = damage or (result.fallback.reason if result.fallback else "it could not be enhanced")
    return reason.rstrip(".")


def _store_for_review(
    one: Upload, fields: UploadFields, state: GatewayState, caller: Caller, reason: str
) -> UploadAnswer:
    """Store a file that cannot be decoded, so that a person can inspect it.

    Raises:
        UnsafeSource: the request may not deliver to its `out`.
    """
    digest = hashlib.sha256(one.data).hexdigest()
    request = make_page_request(f"stored:{digest}.png/page", fields, state.settings, caller)
    admit(request, state.settings)
    name = f"{_REVIEW_FOLDER}/{safe_stem(one.filename)}-{digest[:12]}.bin"
    headers = headers_of(name, state.settings, waits=True)
    uri = open_folder(request.out, state.settings).write(name, one.data, "application/octet-stream", headers)
    return UploadAnswer(
        success=False,
        message=reason,
        result=UploadResult(
            original_key=one.filename,
            status="error",
            folder=_REVIEW_FOLDER,
            s3_url=object_url(uri, state.settings),
            processed_at=datetime.now(UTC),
        ),
    )


def object_url(uri: str, settings: Settings) -> str | None:
    """The HTTP address of an object in S3; None for other places."""
    place = Location.parse(uri)
    if not place.is_in_bucket:
        return None
    bucket, path = place.bucket, quote(place.key)
    if settings.s3_endpoint:
        return f"{settings.s3_endpoint.rstrip('/')}/{bucket}/{path}"
    host = f"s3.{settings.s3_region}.amazonaws.com" if settings.s3_region else "s3.amazonaws.com"
    # The certificate of the host covers one level of names: a bucket with dots goes into the path.
    return f"https://{host}/{bucket}/{path}" if "." in bucket else f"https://{bucket}.{host}/{path}"
