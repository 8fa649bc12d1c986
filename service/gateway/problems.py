"""Errors as answers: a code, one sentence, the request's id. Never a path of ours, never a stack."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from panelworks.errors import (
    NOT_SET_UP,
    Misconfigured,
    PanelworksError,
    Rejected,
    ResourceExhausted,
    Transient,
    UnsafeSource,
)
from panelworks.records import ErrorInfo
from service.gateway.access import Refused
from service.gateway.shapes import Problem

logger = logging.getLogger(__name__)

_BY_CODE = {
    "too_large": 413,
    "body_too_slow": 408,
    "unsupported_format": 415,
    "archive": 415,
    "not_found": 404,
    "unknown_job": 404,
    "unauthorized": 401,
    "forbidden_origin": 403,
    "rate_limited": 429,
    "cancelled": 409,
    "unknown_model": 422,
    "unknown_preset": 422,
    "no_provider": 422,
    "job_ended": 409,
}
_BY_RECORDED_CODE = {
    500: {"internal", "failed", "crashed", "crashed_for_good", "not_writable", "disk_full", "no_bucket",
          "s3_denied", "s3_refused", "object_missing", "callback_unsigned"},
    503: {"s3_unavailable", "unreachable", "timeout", "out_of_memory", "prefect_away", "not_deployed"},
}  # fmt: skip
"""Codes of jobs that failed through no fault of the request."""
_BY_KIND: tuple[tuple[type[PanelworksError], int], ...] = (
    (UnsafeSource, 403),
    (Rejected, 422),
    (Refused, 403),
    (Transient, 503),
    (ResourceExhausted, 503),
    (Misconfigured, 500),
)


def status_of(error: PanelworksError) -> int:
    """The HTTP status of an error."""
    by_kind = next((status for kind, status in _BY_KIND if isinstance(error, kind)), 500)
    return _BY_CODE.get(error.code, by_kind)


def status_of_code(code: str) -> int:
    """The HTTP status of a job that failed with this code, which is all that is recorded of the error."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code.startswith("forbidden_"):
        return 403
    return next((status for status, codes in _BY_RECORDED_CODE.items() if code in codes), 422)


def install(app: FastAPI) -> None:
    """Make every error of the app an answer of one shape."""

    @app.exception_handler(PanelworksError)
    async def ours(request: Request, error: PanelworksError) -> JSONResponse:
        status = status_of(error)
        if status < 500:
            return problem(request, status, error.code, error.message)
        logger.warning("answered %s: %s [%s]", status, error.message, error.code)
        told = "Try again in a while." if status == 503 else NOT_SET_UP
        return problem(request, status, error.code, told)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(request: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        return problem(request, 422, "bad_request", message)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return problem(request, error.status_code, code, str(error.detail))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        logger.error("unforeseen", exc_info=error)
        return problem(request, 500, "internal", "Something unforeseen happened; the log says more.")


def problem(request: Request, status: int, code: str, message: str) -> JSONResponse:
    """The answer to a request that failed."""
    body = Problem(
        error=ErrorInfo(code=code, message=message), request_id=getattr(request.state, "request_id", None)
    )
    headers = {"Retry-After": "10"} if status in (429, 503) else {}
    if status == 408:
        headers["Connection"] = "close"  # the rest of the body is not read
    return JSONResponse(body.model_dump(), status, headers)
