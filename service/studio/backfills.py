"""Backfills: the form that starts one, its estimate, and one backfill while it runs and after its end."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from panelworks.domain.books import PAGE_OPTIONS
from panelworks.domain.fields import REQUEST_LIMITS, parse_json
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import PanelworksError, Rejected
from service.gateway import backfills as api
from service.gateway.access import Admin
from service.gateway.backfill_runs import BackfillRun
from service.gateway.backfills import BackfillRequest
from service.gateway.books import BookId, request_for_book
from service.gateway.problems import public_message
from service.gateway.state import GatewayState, State
from service.studio.callers import FORM_FIELD, StudioRoute, go_to
from service.studio.forms import option_fields
from service.studio.rendering import render_fragment, render_page

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
_OWN_FIELDS: Final = ("archive", "out", "until", "budget", "force")
_HIDDEN_PAGE_OPTIONS: Final = frozenset(EnhanceOptions.model_fields) - frozenset(PAGE_OPTIONS)
_OPEN_SECONDS: Final = 2
"""Between two updates of the list of backfills while one runs or waits."""
_IDLE_SECONDS: Final = 15
_MAX_ENDED: Final = 3
"""Backfills that have ended which the library shows."""


@router.get("/backfills/new")
async def backfill_form(
    request: Request, state: State, caller: Admin, like: str | None = None, book: BookId | None = None
) -> Response:
    """The form that starts a backfill: for the library, with the fields of an earlier one, or for a book that is processed again."""
    if like is not None:
        given = await api.request_of(like, state)
    elif book is not None:
        given = await request_for_book(book, state)
    else:
        given = BackfillRequest(archive=state.settings.library, out=state.settings.finished_library)
    return render_page(
        request, "backfill_form.html", given=given,
        page_fields=tuple(option_fields(given.options.page, without=_HIDDEN_PAGE_OPTIONS)),
        book_fields=tuple(option_fields(given.options, without=("page",))),
    )  # fmt: skip


@router.post("/studio/backfills/estimate")
async def estimate(request: Request, state: State, caller: Admin) -> Response:
    """What the backfill of the form would do."""
    body = await _read_request(request)
    expectation = await api.estimate(body, state, caller)
    html = render_fragment("estimate.html", expectation=expectation, budget=body.budget)
    if "hx-request" in request.headers:
        return HTMLResponse(html)
    return render_page(request, "estimate_page.html", html=html)


@router.post("/studio/backfills")
async def start(request: Request, state: State, caller: Admin) -> Response:
    """Start the backfill of the form."""
    started = await api.start(await _read_request(request), state, caller)
    return go_to(request, f"/backfills/{started.backfill_id}")


@router.get("/studio/backfills")
async def recent(request: Request, state: State, caller: Admin) -> Response:
    """Backfills that run or wait, and the last ones that have ended: a part of the library, readable by itself."""
    found, trouble = await _recent(state, caller)
    seconds = _OPEN_SECONDS if any(map(_is_open, found)) else _IDLE_SECONDS
    html = render_fragment("backfill_rows.html", backfills=found, trouble=trouble, seconds=seconds)
    if "hx-request" in request.headers:
        return HTMLResponse(html)
    return render_page(request, "estimate_page.html", html=html)


@router.get("/backfills/{backfill_id}")
async def backfill(backfill_id: str, request: Request, state: State, caller: Admin) -> Response:
    """One backfill: its progress, and its report when it has ended."""
    found = await api.backfill(backfill_id, state, caller)
    return render_page(request, "backfill.html", backfill=found, progress=_progress(found))


@router.get("/studio/backfills/{backfill_id}/progress")
async def progress(backfill_id: str, request: Request, state: State, caller: Admin) -> Response:
    """The progress of a backfill; the page that shows it is loaded again when the backfill has ended."""
    found = await api.backfill(backfill_id, state, caller)
    headers = {} if _is_open(found) else {"HX-Refresh": "true"}
    return HTMLResponse(_progress(found), headers=headers)


@router.post("/studio/backfills/{backfill_id}/cancel")
async def cancel(backfill_id: str, request: Request, state: State, caller: Admin) -> Response:
    """Start no further book of a backfill."""
    await api.cancel(backfill_id, state, caller)
    return go_to(request, f"/backfills/{backfill_id}")


async def _recent(state: GatewayState, caller: Any) -> tuple[list[BackfillRun], str]:
    try:
        known = (await api.list_backfills(state, caller)).backfills
    except PanelworksError as error:
        return [], public_message(error)
    ended = [one for one in known if not _is_open(one)]
    return [*(one for one in known if _is_open(one)), *ended[:_MAX_ENDED]], ""


def _is_open(backfill: BackfillRun) -> bool:
    return backfill.status in ("queued", "running")


def _progress(backfill: BackfillRun) -> str:
    return render_fragment("backfill_progress.html", backfill=backfill, is_open=_is_open(backfill))


async def _read_request(request: Request) -> BackfillRequest:
    """The backfill of the form; empty fields have their defaults.

    Raises:
        Rejected: `bad_json`. pydantic.ValidationError: a field does not fit.
    """
    own: dict[str, Any] = {}
    page: dict[str, Any] = {}
    book: dict[str, Any] = {}
    for name, value in (await request.form()).items():
        if name == FORM_FIELD or not isinstance(value, str) or not value.strip():
            continue
        content = _parse_rules(value) if name == "rules" else value.strip()
        target = own if name in _OWN_FIELDS else page if name in PAGE_OPTIONS else book
        target[name] = content
    return BackfillRequest.model_validate({**own, "options": {**book, "page": page}})


def _parse_rules(text: str) -> Any:
    """The rules in the field of the form: a list, or an object `{"rules": [...]}` as in a file of rules.

    Raises:
        Rejected: `bad_json`.
    """
    try:
        given = parse_json(text, REQUEST_LIMITS)
    except Rejected as error:
        raise Rejected(error.code, f"Rules: {error.message}") from error
    return given["rules"] if isinstance(given, dict) and list(given) == ["rules"] else given
