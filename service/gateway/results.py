"""Routes of results: the list of finished pages, and their pictures for screens."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from panelworks.domain.result import JobRecord
from panelworks.errors import Rejected
from panelworks.page.views import Layer, make_thumbnail
from service.gateway.access import By, GuardedRoute
from service.gateway.answers import Owner, record_of
from service.gateway.result_index import ResultList, ResultQuery
from service.gateway.state import GatewayState, State

router = APIRouter(prefix="/api/results", tags=["results"], route_class=GuardedRoute)
Place = Annotated[int, Path(ge=0, le=100_000)]
_PRIVATE = {"Cache-Control": "private, max-age=3600"}
"""A page that is processed again under the same id is shown after an hour at the latest."""


@router.get("")
async def results(state: State, caller: By, query: Annotated[ResultQuery, Query()]) -> ResultList:
    """Finished pages, the newest first: those of the key, all of them for an admin key."""
    return await state.results.find(query, None if caller.admin else caller.owner)


@router.get("/{job_id}/thumbnail", response_class=Response)
async def thumbnail(job_id: str, state: State, caller: By, owner: Owner = None) -> Response:
    """A small picture of a finished job."""
    record = await record_of(job_id, caller, owner, state)
    smallest = min(record.result.variants, key=lambda variant: variant.width * variant.height, default=None)
    if smallest is None:
        raise Rejected("not_found", "The page has no pictures.")
    data = await asyncio.to_thread(_thumbnail, state, record, smallest.name)
    return Response(data, media_type="image/webp", headers=_PRIVATE)


def _thumbnail(state: GatewayState, record: JobRecord, variant: str) -> bytes:
    data, _ = state.engine.jobs.delivered(record.result, record.request.out, variant)
    return make_thumbnail(data)


@router.get("/{job_id}/tiles/{layer}/{level}/{column}/{row}", response_class=Response)
async def tile(
    job_id: str, layer: Layer, level: Place, column: Place, row: Place, state: State, caller: By,
    owner: Owner = None,
) -> Response:  # fmt: skip
    """A part of the source or of the master, 512 pixels wide, at the master's size or a half, quarter, ... of it."""
    record = await record_of(job_id, caller, owner, state)
    data, media_type = await asyncio.to_thread(state.views.tile, record.result, layer, level, column, row)
    return Response(data, media_type=media_type, headers=_PRIVATE)
