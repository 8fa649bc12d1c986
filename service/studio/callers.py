"""Who uses the studio: sessions, the tokens of forms, and errors as pages."""

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlsplit

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from panelworks.errors import PanelworksError, Rejected, as_unexpected_error
from service.gateway.access import Access, Refused
from service.gateway.bodies import check_parameters, is_form
from service.gateway.problems import answer_http_error, describe_invalid, public_message, status_of
from service.gateway.sessions import is_form_token, session_cookie
from service.studio.rendering import render_fragment, render_page

logger = logging.getLogger(__name__)

LOGIN_PATH: Final = "/login"
FORM_HEADER: Final = "x-form-token"
FORM_FIELD: Final = "form_token"
_MAX_LEDGER_SECONDS: Final = 0.05
"""How long a page waits for the ledger; rows that are read later are shown by the next page."""
_FIELDS_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
_MAX_FORM_BYTES: Final = 16 * 1024


class FormRoute(APIRoute):
    """A route that accepts short forms, from anyone."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            check_parameters(request)
            if request.method not in ("GET", "HEAD"):
                _check_form_size(request)
            return await handle(request)

        return check_and_handle


class StudioRoute(APIRoute):
    """A route for browsers: without a session it leads to the login page; a request that changes something needs the
    token of its form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            access: Access = request.app.state.gateway.access
            try:
                request.state.caller = access.check(request, with_session=True)
                check_parameters(request)
                if request.method not in ("GET", "HEAD"):
                    await _check_token(request)
                elif "hx-request" not in request.headers:
                    await _refresh_results(request)
                return await handle(request)
            except Refused as error:
                if error.code == "unauthorized":
                    return _to_login(request)
                return _show_problem(request, error)
            except PanelworksError as error:
                return _show_problem(request, error)
            except (RequestValidationError, ValidationError) as error:
                return _show_problem(request, Rejected("bad_request", describe_invalid(error)))
            except HTTPException:
                raise
            except Exception as error:
                logger.exception("request failed: unexpected error")
                return _show_problem(request, as_unexpected_error(error))

        return check_and_handle


def go_to(request: Request, path: str) -> Response:
    """Lead to another page after a form, with and without htmx."""
    if "hx-request" in request.headers:
        return Response(headers={"HX-Redirect": path})
    return RedirectResponse(path, 303)


def show_http_error(request: Request, error: HTTPException) -> Response:
    """A page for a browser that asked for what does not exist; the schema of the API for other clients."""
    wants_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    if not wants_page or not hasattr(request.app.state, "gateway"):
        return answer_http_error(request, error)
    return render_page(request, "error.html", error.status_code, message="There is no such page.")


async def _refresh_results(request: Request) -> None:
    """Read what the ledger has received, for the number of pages that wait for review, which every page shows."""
    with suppress(PanelworksError):
        await request.app.state.gateway.results.read(_MAX_LEDGER_SECONDS)


def _show_problem(request: Request, error: PanelworksError) -> Response:
    """The error as a page, or where htmx shows messages."""
    message, status = public_message(error), status_of(error)
    if status >= 500:
        logger.warning("request failed with status %s: %s [%s]", status, error.message, error.code)
    if "hx-request" in request.headers:
        headers = {"HX-Retarget": "#notice", "HX-Reswap": "innerHTML"}
        return HTMLResponse(render_fragment("problem.html", message=message), status, headers=headers)
    return render_page(request, "error.html", status, message=message)


def _check_form_size(request: Request) -> None:
    """Accept only forms of fields, whose size browsers state: they are read into memory."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    length = request.headers.get("content-length", "")
    if kind != _FIELDS_MEDIA_TYPE or not length.isdigit() or int(length) > _MAX_FORM_BYTES:
        raise Rejected("bad_request", f"A form has at most {_MAX_FORM_BYTES // 1024} KiB of fields.")


async def _check_token(request: Request) -> None:
    given = request.headers.get(FORM_HEADER)
    if given is None:
        if not is_form(request):
            _check_form_size(request)
        value = (await request.form()).get(FORM_FIELD)
        given = value if isinstance(value, str) else ""
    if not is_form_token(session_cookie(request), given):
        raise Refused("forbidden_origin", "This form has expired; load the page again.")


def _to_login(request: Request) -> Response:
    wanted = quote(request.url.path + (f"?{request.url.query}" if request.url.query else ""), safe="")
    if "hx-request" in request.headers:
        return Response(status_code=401, headers={"HX-Redirect": LOGIN_PATH})
    return RedirectResponse(f"{LOGIN_PATH}?next={wanted}", 303)


def local_path(wanted: str) -> str:
    """A path of this site to go to after the login; the start page for anything else."""
    parts = urlsplit(wanted)
    is_local = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.netloc
    return wanted if is_local and wanted.isprintable() else "/"
