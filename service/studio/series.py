"""Rules of series: the list of them, and the choice of one result's settings for all pages of its series."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import JobRecord
from panelworks.page.series import SeriesRule
from service.gateway.access import By, Caller
from service.gateway.series import list_rules, remove_rule, store_rule
from service.gateway.state import GatewayState, State
from service.studio.callers import StudioRoute, go_to
from service.studio.rendering import render_page

router = APIRouter(route_class=StudioRoute, include_in_schema=False)


@router.get("/series")
async def series_rules(request: Request, state: State, caller: By) -> Response:
    """The rules of series that the caller may remove."""
    found = await list_rules(state, caller)
    return render_page(request, "series.html", rules=found.rules)


@router.post("/studio/series/remove")
async def remove(
    request: Request, state: State, caller: By, series: Annotated[str, Form()], owner: Annotated[str, Form()] = ""
) -> Response:  # fmt: skip
    """Remove a rule; pages that were processed with it stay as they are."""
    await remove_rule(series, state, caller, owner)
    return go_to(request, "/series?notice=series_removed")


async def complete_options(record: JobRecord, state: GatewayState) -> EnhanceOptions:
    """The options of a page with what the rule of its series states now, for forms: what they show is what happens."""
    origin = record.request.origin
    options, treatment = await asyncio.to_thread(
        state.engine.series.complete, record.request.options, origin.owner, origin.comic_id
    )
    return record.request.options if treatment is None else options


async def use_for_series(
    page: JobRecord, options: EnhanceOptions, state: GatewayState, caller: Caller
) -> None:
    """Process the pages of the series of a page with these options.

    Options that state nothing are those that pages have without a rule: then the rule is removed.
    """
    owner, series = page.request.origin.owner, page.request.origin.comic_id
    if not series:
        return
    treatment = options.treatment
    if not treatment.given:
        await asyncio.to_thread(state.engine.series.remove, owner, series)
        return
    rule = SeriesRule(
        owner=owner, series=series, treatment=treatment, set_by=caller.name, job_id=page.request.job_id
    )
    await store_rule(rule, state)
