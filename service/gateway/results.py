"""Routes of results: the list of finished pages, and their pictures for screens."""

import asyncio
from functools import partial
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response

from panelworks.domain.fields import REQUEST_LIMITS, parse_json
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.regions import MAX_COORDINATE
from panelworks.domain.result import JobRecord
from panelworks.domain.treatment import MAX_SIDE_PIXELS
from panelworks.errors import Rejected
from panelworks.page.preview import Preview
from panelworks.page.views import Layer, make_thumbnail
from service.gateway.access import By, GuardedRoute
from service.gateway.answers import Owner, record_of
from service.gateway.result_index import DaySummary, ResultList, ResultQuery
from service.gateway.state import GatewayState, State

router = APIRouter(prefix="/api/results", tags=["results"], route_class=GuardedRoute)
Place = Annotated[int, Path(ge=0, le=100_000)]
Side = Annotated[int, Query(ge=1, le=MAX_SIDE_PIXELS)]
Corner = Annotated[int, Query(ge=0, le=MAX_COORDINATE, description="In pixels of the source.")]
_PRIVATE = {"Cache-Control": "private, max-age=3600"}
"""A page that is processed again under the same id is shown after an hour at the latest."""


@router.get("")
async def results(state: State, caller: By, query: Annotated[ResultQuery, Query()]) -> ResultList:
    """Finished pages, the newest first: those of the key, all of them for an admin key."""
    return await state.results.find(query, None if caller.admin else caller.owner)


@router.get("/today")
async def today(state: State, caller: By) -> DaySummary:
    """Pages and cost of the day: those of the key, of all keys for an admin key."""
    return await state.results.summarize_day(
        None if caller.admin else caller.owner, state.settings.budget_per_day
    )


@router.get("/{job_id}/thumbnail", response_class=Response)
async def thumbnail(job_id: str, state: State, caller: By, owner: Owner = None) -> Response:
    """A small picture of a finished job."""
    record = await record_of(job_id, caller, owner, state)
    readable = [variant for variant in record.result.variants if variant.format != "jxl"]
    smallest = min(readable, key=lambda variant: variant.width * variant.height, default=None)
    name = smallest.name if smallest is not None else "master"
    if not record.result.variants:
        raise Rejected("not_found", "The page has no pictures.")
    data = await asyncio.to_thread(_thumbnail, state, record, name)
    return Response(data, media_type="image/webp", headers=_PRIVATE)


def _thumbnail(state: GatewayState, record: JobRecord, variant: str) -> bytes:
    data, _ = state.engine.jobs.delivered(record.result, record.request.out, variant)
    return make_thumbnail(data)


@router.get("/{job_id}/tiles/{layer}/{level}/{column}/{row}", response_class=Response)
async def tile(
    job_id: str, layer: Layer, level: Place, column: Place, row: Place, state: State, caller: By,
    owner: Owner = None, width: Side | None = None, height: Side | None = None,
) -> Response:  # fmt: skip
    """A part of the source or of the master, 512 pixels wide, at the master's size or a half, quarter, ... of it.

    Another `width` and `height` shows the picture in this size, to compare it with a picture of this size.
    """
    record = await record_of(job_id, caller, owner, state)
    size = (width, height) if width and height else None
    cut = partial(state.views.tile, record.result, layer, level, column, row, size)
    data, media_type = await asyncio.to_thread(cut)
    return Response(data, media_type=media_type, headers=_PRIVATE)


@router.get("/{job_id}/preview/{layer}", response_class=Response)
async def preview(
    job_id: str, layer: Layer, state: State, caller: By, owner: Owner = None,
    options: Annotated[str, Query(description="The options to try, as a JSON object.")] = "{}",
    left: Corner = 0, top: Corner = 0,
) -> Response:  # fmt: skip
    """A part of a finished page of 512 x 512 pixels, as other options would deliver it, or the source in the same size.

    The headers say which network and rule apply and how long the computation took.
    """
    chosen = EnhanceOptions.model_validate(await asyncio.to_thread(parse_json, options, REQUEST_LIMITS))
    made = await make_preview(await record_of(job_id, caller, owner, state), chosen, left, top, state)
    headers = {
        "X-Panelworks-Model": made.model or "none",
        "X-Panelworks-Rule": quote(made.rule or "none"),
        "X-Panelworks-Region": f"{made.region.left},{made.region.top},{made.region.width},{made.region.height}",
        "X-Panelworks-Seconds": str(made.seconds),
    }
    data = made.source if layer == "source" else made.result
    return Response(data, media_type="image/webp", headers={**_PRIVATE, **headers})


async def make_preview(
    record: JobRecord, options: EnhanceOptions, left: int, top: int, state: GatewayState
) -> Preview:
    """The preview of a part of a page, in turn with the pages that are computed here.

    Raises:
        Transient: `budget_spent`. PanelworksError: as `Previews.make`.
    """
    state.budget.require()
    return await state.direct.run(partial(state.previews.make, record, options, left, top))
