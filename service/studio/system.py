"""Signing in and out, and the state of the system."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from prefect.settings import PREFECT_UI_URL

from panelworks.errors import PanelworksError
from service.gateway.access import Access, By, Refused
from service.gateway.monitoring import read_components
from service.gateway.prefect_readings import Backlog
from service.gateway.results import today
from service.gateway.sessions import SESSION_COOKIE, is_form_token, session_cookie, set_session
from service.gateway.state import State
from service.studio.callers import LOGIN_PATH, FormRoute, StudioRoute, local_path
from service.studio.rendering import render_fragment, render_page

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
login_router = APIRouter(route_class=FormRoute, include_in_schema=False)


@login_router.get(LOGIN_PATH)
async def login_form(request: Request, next: str = "/") -> Response:
    """The form that accepts an API key."""
    access: Access = request.app.state.gateway.access
    if not access.keys or access.keys.caller_of_session(session_cookie(request)):
        return RedirectResponse(local_path(next), 303)
    return render_page(request, "login.html", next=local_path(next), message="")


@login_router.post(LOGIN_PATH)
async def login(
    request: Request,
    key: Annotated[str, Form(max_length=500)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
    form_token: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Open a session for the key."""
    access: Access = request.app.state.gateway.access
    access.count_login(request)
    if not is_form_token(session_cookie(request), form_token):
        raise Refused("forbidden_origin", "This form has expired; load the page again.")
    session = access.keys.open_session(key.strip())
    if session is None:
        message = "There is no such key."
        return render_page(request, "login.html", 401, next=local_path(next), message=message)
    response = RedirectResponse(local_path(next), 303)
    set_session(request, response, session)
    return response


@router.post("/logout")
async def logout(request: Request, caller: By) -> Response:
    """End the session of this browser."""
    response = RedirectResponse(LOGIN_PATH, 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


@router.get("/system")
async def system(request: Request, state: State, caller: By) -> Response:
    """Health, queues, workers, budget and links."""
    return render_page(
        request, "system.html", prefect_url=PREFECT_UI_URL.value(), budget_spent=state.budget.spent,
        settings=state.settings, day=await today(state, caller),
    )  # fmt: skip


@router.get("/studio/parts")
async def parts(request: Request, state: State, caller: By) -> Response:
    """The parts of the system, which take a while to ask; for the page above, and readable by itself."""
    components = await read_components(state)
    backlogs: dict[str, Backlog] = {}
    workers: dict[str, int] = {}
    trouble = ""
    try:
        backlogs = {str(name): backlog for name, backlog in (await state.readings.read_backlogs()).items()}
        workers = dict((await state.readings.read_supply()).workers)
    except PanelworksError as error:
        trouble = error.message
    values: dict[str, Any] = {
        "components": components,
        "backlogs": backlogs,
        "workers": workers,
        "trouble": trouble,
    }
    if "hx-request" in request.headers:
        return Response(render_fragment("parts.html", **values), media_type="text/html")
    return render_page(request, "parts_page.html", 200, **values)
