"""Processing a page again: the form of the options, a preview of a part, and both results side by side."""

from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import JobRecord, PageResult
from panelworks.page.preview import PREVIEW_PIXELS
from panelworks.page.views import TILE_PIXELS, count_levels
from service.gateway.access import By, Caller
from service.gateway.answers import Owner, job_of, key_for, record_of
from service.gateway.bodies import read_form
from service.gateway.results import Corner, make_preview
from service.gateway.schemas import Job, ReEnhanceRequest
from service.gateway.state import GatewayState, State
from service.gateway.submission import Known
from service.studio.callers import FORM_FIELD, StudioRoute, go_to
from service.studio.forms import option_fields
from service.studio.rendering import render_fragment, render_page
from service.studio.review import page_path
from service.studio.series import complete_options

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
_FORM_FIELDS: Final = frozenset({FORM_FIELD, "left", "top"})
"""Fields of the form that are not options."""
ENDED: Final = ("done", "failed", "cancelled")
"""Statuses of jobs that change no more."""


@router.get("/pages/{job_id}/again")
async def again_form(
    job_id: str, request: Request, state: State, caller: By, owner: Owner = None,
    left: Corner | None = None, top: Corner | None = None,
) -> Response:  # fmt: skip
    """The options of a page as a form."""
    record = await record_of(job_id, caller, owner, state)
    source = record.result.source
    size = (source.width, source.height) if source else (0, 0)
    corner = [
        max(0, (side - PREVIEW_PIXELS) // 2) if given is None else given
        for side, given in zip(size, (left, top), strict=True)
    ]
    return render_page(
        request, "again.html", record=record, result=record.result, owner=owner, corner=corner, size=size,
        preview_pixels=PREVIEW_PIXELS,
        fields=tuple(option_fields(await complete_options(record, state), without=("review",))),
    )  # fmt: skip


@router.post("/studio/pages/{job_id}/preview")
async def preview(job_id: str, request: Request, state: State, caller: By, owner: Owner = None) -> Response:
    """A part of the page with the options of the form."""
    record = await record_of(job_id, caller, owner, state)
    options = await _read_options(request, state)
    form = await request.form()
    left, top = (_number(form.get(name)) for name in ("left", "top"))
    made = await make_preview(record, options, left, top, state)
    query = urlencode(
        {
            "owner": owner or "",
            "options": options.model_dump_json(exclude_defaults=True),
            "left": left,
            "top": top,
        }
    )
    html = render_fragment("preview.html", made=made, query=query, result=record.result)
    if "hx-request" in request.headers:
        return HTMLResponse(html)
    return render_page(request, "preview_page.html", html=html, result=record.result, owner=owner)


@router.post("/studio/pages/{job_id}/again")
async def process_again(
    job_id: str, request: Request, state: State, caller: By, owner: Owner = None
) -> Response:
    """Process the whole page with the options of the form, then compare both results."""
    record = await record_of(job_id, caller, owner, state)
    options = await _read_options(request, state)
    options = options.model_copy(
        update={"review": "always"}
    )  # nothing is published before somebody has seen both
    origin = record.request.origin
    body = ReEnhanceRequest(options=options, callback=origin.callback)
    answer = await state.submission.submit_again(record, body, caller)
    other = answer.result.job_id if isinstance(answer, Known) else answer.key.job_id
    if other == job_id:
        return go_to(request, page_path(job_id, owner, notice="same"))
    query = urlencode({"owner": owner or "", "other": other, "other_owner": caller.owner or ""})
    return go_to(request, f"/pages/{job_id}/against?{query}")


@router.get("/pages/{job_id}/against")
async def against(
    job_id: str, request: Request, state: State, caller: By, other: str, owner: Owner = None,
    other_owner: Owner = None,
) -> Response:  # fmt: skip
    """Two results of a page under the slider, and the choice between them."""
    first = await record_of(job_id, caller, owner, state)
    job = await _job(other, state, caller, other_owner)
    if job.status not in ENDED or job.result is None or job.result.master is None:
        return render_page(
            request, "waiting.html", job=job, first=first.result, owner=owner, job_owner=other_owner,
            ended=job.status in ENDED,
        )  # fmt: skip
    size = larger_size(first.result, job.result)
    second: JobRecord = await record_of(other, caller, other_owner, state)
    return render_page(
        request, "against.html", sides=(first, second), owners=(owner, other_owner), size=size,
        levels=count_levels(size), tile=TILE_PIXELS,
    )  # fmt: skip


@router.get("/studio/jobs/{job_id}/state")
async def job_state(job_id: str, request: Request, state: State, caller: By, owner: Owner = None) -> Response:
    """The progress of a job; the page that shows it is loaded again when the job has ended."""
    job = await _job(job_id, state, caller, owner)
    headers = {"HX-Refresh": "true"} if job.status in ENDED else {}
    return HTMLResponse(render_fragment("job_state.html", job=job, job_owner=owner), headers=headers)


async def _job(job_id: str, state: GatewayState, caller: Caller, owner: str | None) -> Job:
    return await job_of(await key_for(job_id, caller, owner, state), state)


async def _read_options(request: Request, state: GatewayState) -> EnhanceOptions:
    _, fields = await read_form(request, state.settings, ignored=_FORM_FIELDS)
    options = fields.options
    if fields.preset:
        options = EnhanceOptions.model_validate({**options.model_dump(), "preset": fields.preset})
    return options


def _number(given: object) -> int:
    return int(given) if isinstance(given, str) and given.isdigit() and len(given) <= 9 else 0


def larger_size(*results: PageResult) -> tuple[int, int]:
    """The size of the largest master."""
    return max((one.master.width, one.master.height) for one in results if one.master is not None)
