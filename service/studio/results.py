"""Results: a grid of pages with filters, and one page with its slider."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from panelworks.domain.regions import Region
from panelworks.domain.request import JobKey
from panelworks.domain.result import ArtifactRef, PageResult, SourceInfo
from panelworks.page.views import TILE_PIXELS, count_levels
from service.gateway.access import By
from service.gateway.answers import Owner, key_for, links_of, record_of
from service.gateway.jobs import events_url, run_url
from service.gateway.result_index import ResultQuery, ResultRow
from service.gateway.state import GatewayState, State
from service.studio.callers import StudioRoute
from service.studio.rendering import REVIEW_NAMES, ROUTE_NAMES, render_page, seen_by

_NOTICE_FIELDS: Final = ("notice", "of", "count")
_RELOAD_SECONDS: Final = 3
"""After which a browser loads the results again, while a gateway that has just started still reads the ledger."""
_SIDES: Final = ("left", "top", "width", "height")
router = APIRouter(route_class=StudioRoute, include_in_schema=False)


@router.get("/results")
async def results(request: Request, state: State, caller: By) -> Response:
    """Finished pages, the newest first."""
    query = _query_of(request, without=_NOTICE_FIELDS)
    found = await state.results.find(query, seen_by(caller))
    response = render_page(
        request, "results.html", found=found, query=query, routes=ROUTE_NAMES, reviews=REVIEW_NAMES,
        given=_filter_of(query),
    )  # fmt: skip
    if not found.complete:
        response.headers["Refresh"] = str(_RELOAD_SECONDS)
    return response


def _query_of(request: Request, without: Collection[str]) -> ResultQuery:
    """The filter in an address.

    Raises:
        pydantic.ValidationError: a value does not fit.
    """
    return ResultQuery.model_validate(
        {
            name: value
            for name, value in request.query_params.items()
            if value and name not in without and name in ResultQuery.model_fields
        }
    )


def _filter_of(query: ResultQuery) -> dict[str, Any]:
    """The fields of a filter that have a value, for links."""
    return query.model_dump(exclude_none=True, exclude={"limit", "offset"})


@router.get("/pages/{job_id}")
async def page(job_id: str, request: Request, state: State, caller: By, owner: Owner = None) -> Response:
    """A page: the slider over source and master, and what was done."""
    record = await record_of(job_id, caller, owner, state)
    result = record.result
    size = (result.master.width, result.master.height) if result.master else (0, 0)
    key = await key_for(job_id, caller, owner, state)
    run_id = await _run_id(key, state)
    query = _query_of(request, without=(*_NOTICE_FIELDS, "owner"))
    older, newer = await _neighbours(job_id, state, seen_by(caller), query)
    return render_page(
        request, "page.html", record=record, result=result, links=await asyncio.to_thread(links_of, result, state.settings), size=size,
        run_url=run_url(run_id) if run_id else None, events_url=events_url(f"comic.job.{job_id}"), levels=count_levels(size),
        tile=TILE_PIXELS, older=older, newer=newer, owner=owner, given=_filter_of(query),
        regions=[*_artifact_regions(result), *_failed_regions(result)],
    )  # fmt: skip


def _failed_regions(result: PageResult) -> list[dict[str, Any]]:
    """The parts of the page in which checks failed, in pixels of the master."""
    if result.fallback is None or result.source is None or result.master is None:
        return []
    return [
        {"name": check.name, **_in_master(check.region, result.source, result.master)}
        for check in result.fallback.checks
        if check.region is not None and not check.passed
    ]


def _artifact_regions(result: PageResult) -> list[dict[str, Any]]:
    """The parts of the page with artifacts, in pixels of the master."""
    if result.source is None or result.master is None:
        return []
    return [
        {
            "name": f"{one.title}, {one.strength:.0%}",
            "artifact": True,
            **_in_master(one, result.source, result.master),
        }
        for one in result.regions
    ]


def _in_master(region: Region, source: SourceInfo, master: ArtifactRef) -> dict[str, float]:
    """The sides of a region of the source, in pixels of the master."""
    scale = master.width / source.width
    return {side: getattr(region, side) * scale for side in _SIDES}


async def _run_id(key: JobKey, state: GatewayState) -> str | None:
    """The run of a job, as far as this gateway knows it without asking Prefect."""
    accepted = await asyncio.to_thread(state.engine.accepted.find, key)
    return (accepted.run_id if accepted else None) or state.event_stream.run_id_of(key)


async def _neighbours(
    job_id: str, state: State, owner: str | None, query: ResultQuery
) -> tuple[ResultRow | None, ResultRow | None]:
    """The results before and after a job, of those that a filter accepts; the job has its place even if it is not one of them."""
    rows, _ = await state.results.read()
    accepted = {id(row) for row in query.select(rows)}
    mine = [
        row for row in rows
        if row.status == "success" and row.book is None and owner in (None, row.owner)
        and (row.job_id == job_id or id(row) in accepted)
    ]  # fmt: skip
    place = next((number for number, row in enumerate(mine) if row.job_id == job_id), None)
    if place is None:
        return None, None
    older = mine[place + 1] if place + 1 < len(mine) else None
    return older, mine[place - 1] if place > 0 else None
