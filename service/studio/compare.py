"""Comparing networks and scales on one page: two to four results side by side, and the choice of one."""

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response

from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Rejected
from panelworks.page.views import TILE_PIXELS, count_levels
from service.gateway.access import By, Caller
from service.gateway.answers import Owner, job_of, key_for, record_of
from service.gateway.schemas import Job, ReEnhanceRequest
from service.gateway.state import GatewayState, State
from service.gateway.submission import Known
from service.studio.again import ENDED, larger_size
from service.studio.callers import StudioRoute, go_to
from service.studio.rendering import render_page
from service.studio.review import discard, page_path, publish
from service.studio.series import complete_options, use_for_series

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
MIN_RESULTS: Final = 2
MAX_RESULTS: Final = 4
Selected = Annotated[tuple[str, ...], Query(max_length=MAX_RESULTS)]
"""Network and scale of each result, as they were selected in the form."""
Jobs = Annotated[list[str], Query(min_length=MIN_RESULTS, max_length=MAX_RESULTS)]


@router.get("/pages/{job_id}/compare")
async def compare_form(
    job_id: str, request: Request, state: State, caller: By, owner: Owner = None
) -> Response:
    """The networks and scales that can be compared on a page."""
    record = await record_of(job_id, caller, owner, state)
    return render_page(
        request, "compare_form.html", result=record.result, owner=owner, rows=range(MAX_RESULTS),
        models=_known_models(), smallest=MIN_RESULTS,
    )  # fmt: skip


@router.post("/studio/pages/{job_id}/compare")
async def start(
    job_id: str, request: Request, state: State, caller: By, models: Annotated[list[str], Form()],
    scales: Annotated[list[str], Form()], owner: Owner = None,
) -> Response:  # fmt: skip
    """Process a page with each of the chosen settings; nothing is published before one is chosen."""
    record = await record_of(job_id, caller, owner, state)
    wanted = dict.fromkeys((model, scale) for model, scale in zip(models, scales, strict=True) if model)
    if not MIN_RESULTS <= len(wanted) <= MAX_RESULTS:
        raise Rejected("bad_request", f"Choose {MIN_RESULTS} to {MAX_RESULTS} different settings.")
    base = await complete_options(record, state)
    settings_of_jobs: dict[str, str] = {}
    for model, scale in wanted:
        again = ReEnhanceRequest(options=_with_setting(base, model, scale))
        answer = await state.submission.submit_again(record, again, caller)
        job = answer.result.job_id if isinstance(answer, Known) else answer.key.job_id
        # A result that is known may have been requested in another way: what was selected here is part of the address.
        settings_of_jobs.setdefault(job, f"{model} {scale}".strip())
    if len(settings_of_jobs) < MIN_RESULTS:
        raise Rejected("bad_request", "These settings give the same result.")
    query = [("owner", owner or "")]
    for job, setting in settings_of_jobs.items():
        query += [("jobs", job), ("selected", setting)]
    return go_to(request, f"/pages/{job_id}/compared?{urlencode(query)}")


@router.get("/pages/{job_id}/compared")
async def compared(
    job_id: str, jobs: Jobs, request: Request, state: State, caller: By, selected: Selected = (), owner: Owner = None
) -> Response:  # fmt: skip
    """The results side by side, with linked zoom; those that are not computed yet show their progress."""
    record = await record_of(job_id, caller, owner, state)
    page = record.result
    found = [await _read(job, state, caller) for job in jobs]
    results = [job.result for job in found if job.result is not None and job.result.master is not None]
    size = larger_size(*(results or [page]))
    waiting = next((job for job in found if job.status not in ENDED), None)
    return render_page(
        request, "compared.html", page=page, owner=owner, jobs=found, waiting=waiting, job_owner=caller.owner,
        labels=[_label(setting) for setting in selected] if len(selected) == len(jobs) else ["result"] * len(jobs), selected=selected, series=record.request.origin.comic_id,
        open=not waiting and all(one.review is None or one.awaits_review for one in results), size=size, levels=count_levels(size), tile=TILE_PIXELS,
    )  # fmt: skip


@router.post("/studio/pages/{job_id}/take")
async def take(
    job_id: str, request: Request, state: State, caller: By, jobs: Annotated[list[str], Form()],
    chosen: Annotated[str, Form()], selected: Annotated[list[str] | None, Form()] = None,
    for_series: Annotated[bool, Form()] = False, owner: Owner = None,
) -> Response:  # fmt: skip
    """Publish one of the results, and discard the others and the page itself if they wait for review.

    With `for_series` the series of the page gets the settings of the result.
    """
    if chosen not in jobs:
        raise Rejected("bad_request", "Choose one of the results.")
    await publish(chosen, f"chosen among {len(jobs)} results of {job_id}", state, caller, caller.owner)
    if for_series:
        page = await record_of(job_id, caller, owner, state)
        options = (await record_of(chosen, caller, caller.owner, state)).request.options
        if selected is not None and len(selected) == len(jobs):
            model, _, scale = selected[jobs.index(chosen)].partition(" ")
            options = _with_setting(await complete_options(page, state), model, scale)
        await use_for_series(page, options, state, caller)
    for other in jobs:
        if other not in (chosen, job_id):
            await discard(other, f"{chosen} was chosen", state, caller, caller.owner)
    if job_id != chosen:
        await discard(job_id, f"{chosen} was chosen", state, caller, owner)
    notice = "used_for_series" if for_series else "approved"
    return go_to(request, page_path(chosen, caller.owner, notice=notice, of=chosen))


def _with_setting(base: EnhanceOptions, model: str, scale: str) -> EnhanceOptions:
    """The options of a page with another network and, unless it is empty, another scale. The result is reviewed."""
    given = base.model_dump(exclude_defaults=True) | {"model": model, "review": "always"}
    if scale:
        given.pop("longest_side", None)  # it states the size as well
        given["scale"] = scale
    return EnhanceOptions.model_validate(given)


async def _read(job_id: str, state: GatewayState, caller: Caller) -> Job:
    return await job_of(await key_for(job_id, caller, caller.owner, state), state)


def _label(setting: str) -> str:
    """A setting as it was selected, as text."""
    model, _, scale = setting.partition(" ")
    return f"{model}, scale {scale}" if scale else model


def _known_models() -> tuple[str, ...]:
    """The networks that the options name. Weights that a worker lacks and cannot download are an error of that result."""
    schema: dict[str, Any] = EnhanceOptions.model_json_schema()["properties"]["model"]
    return tuple(next(part["enum"] for part in schema["anyOf"] if "enum" in part))
