"""Backfills: the form that starts one, its estimate, and one backfill while it runs and after its end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from service.studio.live import Key, LiveRows, send_rows
from service.studio.rendering import render_fragment, render_page

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
_OWN_FIELDS: Final = ("archive", "out", "until", "budget", "force")
_HIDDEN_PAGE_OPTIONS: Final = frozenset(EnhanceOptions.model_fields) - frozenset(PAGE_OPTIONS)
_LIST_SECONDS: Final = 5.0
"""Age at which the rows are rendered again without an event: ages are part of them, and an event may be lost."""
_CHANGED: Final = "books-changed"
"""The event at which the list of books loads itself again."""
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
    return render_page(request, "estimate_page.html", html=await view_of(request).html(None))


@router.get("/studio/backfills/events")
async def recent_events(request: Request, caller: Admin) -> Response:
    """The same rows as server-sent events, whenever they change."""
    return send_rows(view_of(request).live.follow(None), _CHANGED)


@router.get("/backfills/{backfill_id}")
async def backfill(backfill_id: str, request: Request, state: State, caller: Admin) -> Response:
    """One backfill: its progress, and its report when it has ended."""
    found = await api.backfill(backfill_id, state, caller)
    return render_page(request, "backfill.html", backfill=found, progress=_progress(found))


@router.get("/studio/backfills/{backfill_id}/events")
async def progress_events(backfill_id: str, request: Request, state: State, caller: Admin) -> Response:
    """The progress of a backfill as server-sent events, whenever it changes."""
    found = await api.backfill(backfill_id, state, caller)
    return send_rows(view_of(request).live.follow(found.backfill_id))


@router.get("/studio/backfills/{backfill_id}/ended")
async def ended(backfill_id: str, caller: Admin) -> Response:
    """Have htmx load the page of a backfill that has ended again: it shows more then."""
    return Response(status_code=204, headers={"HX-Refresh": "true"})


@router.post("/studio/backfills/{backfill_id}/cancel")
async def cancel(backfill_id: str, request: Request, state: State, caller: Admin) -> Response:
    """Start no further book of a backfill."""
    await api.cancel(backfill_id, state, caller)
    return go_to(request, f"/backfills/{backfill_id}")


class BackfillsView:
    """The rows of the list of backfills, and the progress of each that somebody follows, rendered once for all browsers."""

    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._rendered: dict[Key, _Rendered] = {}
        self.live = LiveRows(state.event_stream, self.html)

    async def html(self, backfill_id: Key) -> str:
        """The progress of a backfill; None: the list of those that run or wait, and the last ones that have ended.

        Raises:
            PanelworksError: Prefect does not answer, or does not know the backfill.
        """
        changes, known = self._state.event_stream.book_changes, self._rendered.get(backfill_id)
        if known is not None and known.is_current(changes):
            return known.html
        html = await (self._list(changes) if backfill_id is None else self._progress(backfill_id))
        self._rendered = {key: one for key, one in self._rendered.items() if one.is_current(changes)}
        self._rendered[backfill_id] = _Rendered(html, changes, time.monotonic())
        return html

    async def _list(self, changes: int) -> str:
        """The list. The number of changes is part of it: browsers also follow books that belong to no backfill."""
        known: Sequence[BackfillRun] = ()
        trouble = ""
        try:
            known = await self._state.backfills.list_newest()
        except PanelworksError as error:
            trouble = public_message(error)
        ended = [one for one in known if not _is_open(one)]
        shown = [*(one for one in known if _is_open(one)), *ended[:_MAX_ENDED]]
        return render_fragment("backfill_rows.html", backfills=shown, trouble=trouble, changes=changes)

    async def _progress(self, backfill_id: str) -> str:
        found = await api.describe(await self._state.backfills.find(backfill_id), self._state)
        return _progress(found, is_live=True)


@dataclass(frozen=True)
class _Rendered:
    """Rows as they were at a time."""

    html: str
    changes: int
    """`EventStream.book_changes` at that time."""
    at: float
    """In monotonic seconds."""

    def is_current(self, changes: int) -> bool:
        return changes == self.changes and time.monotonic() - self.at < _LIST_SECONDS


def view_of(request: Request) -> BackfillsView:
    """The view of the running gateway."""
    state = request.app.state
    if not hasattr(state, "backfills_view"):
        state.backfills_view = BackfillsView(state.gateway)
    view: BackfillsView = state.backfills_view
    return view


def _is_open(backfill: BackfillRun) -> bool:
    return backfill.status in ("queued", "running")


def _progress(backfill: BackfillRun, *, is_live: bool = False) -> str:
    """The progress of a backfill. A live one that has ended loads its page again."""
    is_open = _is_open(backfill)
    return render_fragment(
        "backfill_progress.html", backfill=backfill, is_open=is_open, reload=is_live and not is_open
    )


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
