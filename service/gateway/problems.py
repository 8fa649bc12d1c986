"""Converts errors to HTTP responses with a code, one sentence and the request id.

Responses contain no paths of the server and no tracebacks.
"""

import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from panelworks.domain.result import ErrorInfo
from panelworks.errors import Fault, Misconfigured, PanelworksError, UnsafeSource, misconfigured_message
from service.gateway.access import Refused
from service.gateway.schemas import Problem

logger = logging.getLogger(__name__)

_RETRY_AFTER_SECONDS: Final = 10
_UNEXPECTED_MESSAGE: Final = "An unexpected error occurred; the log of the server has the cause."
_STATUS_BY_CODE = {
    "too_large": 413,
    "not_acceptable": 406,
    "bad_link": 403,
    "link_expired": 403,
    "body_too_slow": 408,
    "unsupported_format": 415,
    "archive": 415,
    "not_found": 404,
    "unknown_job": 404,
    "unknown_book": 404,
    "unknown_series": 404,
    "unknown_batch": 404,
    "unauthorized": 401,
    "forbidden_origin": 403,
    "rate_limited": 429,
    "cancelled": 409,
    "job_ended": 409,
    "batch_ended": 409,
    "batch_exists": 409,
    "already_reviewed": 409,
    "not_reviewed": 409,
}
_OTHER_UNSAFE_SOURCE_CODES = frozenset({"plain_http"})
"""Codes of `UnsafeSource` that do not begin with `forbidden_`."""
_STATUS_BY_FAULT: dict[Fault, int] = {"input": 422, "temporary": 503, "service": 500}


def status_of(error: PanelworksError) -> int:
    """The HTTP status of an error."""
    default_status = 403 if isinstance(error, UnsafeSource | Refused) else _STATUS_BY_FAULT[error.fault]
    return _STATUS_BY_CODE.get(error.code, default_status)


def status_of_job(error: ErrorInfo | None) -> int:
    """The HTTP status of a failed job, from its recorded error."""
    if error is None or error.fault is None:
        return 500 if error is None else _STATUS_BY_CODE.get(error.code, 500)
    default_status = (
        403
        if error.code in _OTHER_UNSAFE_SOURCE_CODES or error.code.startswith("forbidden_")
        else _STATUS_BY_FAULT[error.fault]
    )
    return _STATUS_BY_CODE.get(error.code, default_status)


def install_error_handlers(app: FastAPI) -> None:
    """Register handlers that answer every error in the same schema."""

    @app.exception_handler(PanelworksError)
    async def answer_known_error(request: Request, error: PanelworksError) -> JSONResponse:
        status = status_of(error)
        if status >= 500:
            logger.warning("request failed with status %s: %s [%s]", status, error.message, error.code)
        retry = error.retry_after_seconds if isinstance(error, Refused) else None
        return problem_response(
            request, status, error.code, public_message(error), retry or _RETRY_AFTER_SECONDS
        )

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def answer_invalid_request(
        request: Request, error: RequestValidationError | ValidationError
    ) -> JSONResponse:
        return problem_response(request, 422, "bad_request", describe_invalid(error))

    @app.exception_handler(HTTPException)
    async def answer_error_of_http(request: Request, error: HTTPException) -> JSONResponse:
        return answer_http_error(request, error)

    @app.exception_handler(Exception)
    async def answer_unexpected_error(request: Request, error: Exception) -> JSONResponse:
        logger.error("request failed: unexpected error", exc_info=error)
        return problem_response(request, 500, "internal", _UNEXPECTED_MESSAGE)


def answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
    """The response to a request for what does not exist."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    return problem_response(request, error.status_code, code, str(error.detail))


def public_message(error: PanelworksError) -> str:
    """What a client reads about an error. The message of an error of the server may contain local paths."""
    status = status_of(error)
    if status < 500:
        return error.message
    if status == 503:
        return "The service is temporarily unavailable; try again later."
    return misconfigured_message(error.code) if isinstance(error, Misconfigured) else _UNEXPECTED_MESSAGE


def describe_invalid(error: RequestValidationError | ValidationError) -> str:
    """The first field that does not fit, and why."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {reason}" if place else reason


def problem_response(
    request: Request, status: int, code: str, message: str, retry_after_seconds: int = _RETRY_AFTER_SECONDS
) -> JSONResponse:
    """The response to a request that failed."""
    fault: Fault = "input" if status < 500 else "temporary" if status == 503 else "service"
    body = Problem(
        error=ErrorInfo(code=code, message=message, fault=fault),
        request_id=getattr(request.state, "request_id", None),
    )
    headers = {"Retry-After": str(retry_after_seconds)} if status in (429, 503) else {}
    if status == 408:
        headers["Connection"] = "close"  # the rest of the body is not read
    return JSONResponse(body.model_dump(), status, headers)
