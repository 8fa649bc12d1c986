"""The page endpoint: a page in, the enhanced page out. Comic servers call it for each page that they show."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from panelworks import pictures
from panelworks.domain.fields import ClientText
from panelworks.domain.formats import MEDIA_TYPES
from panelworks.domain.result import IngestedPage, PageResult
from panelworks.errors import PanelworksError, Rejected, Transient
from service.gateway.access import By, GuardedRoute
from service.gateway.bodies import Upload, form_body, read_form
from service.gateway.problems import status_of
from service.gateway.state import GatewayState, State
from service.gateway.submission import make_page_request, source_of_upload

router = APIRouter(prefix="/api", tags=["pages"], route_class=GuardedRoute)


@router.post("/pages", response_class=Response, openapi_extra=form_body("image"))
async def page(
    request: Request,
    state: State,
    caller: By,
    deadline: Annotated[
        float | None, Query(gt=0, le=600, description="Seconds after which the original is good enough.")
    ] = None,
    on_failure: Annotated[
        Literal["original", "error"],
        Query(description="What to return when the page is not ready or is refused."),
    ] = "original",
    variant: Annotated[
        ClientText | None,
        Query(
            max_length=100,
            description="Which picture to return: the name of a variant, or master; empty: high, or else the largest variant.",
        ),
    ] = None,
) -> Response:
    """Enhance a page (multipart `image`); the body of the response is the enhanced page.

    The header X-Panelworks-Route is its route; `original` when the page itself is returned.
    """
    uploads, fields = await read_form(request, state.settings)
    if len(uploads) != 1:
        raise Rejected("bad_request", "The form holds one picture, in the field 'image'.")
    upload = uploads[0]
    try:
        source = await asyncio.to_thread(source_of_upload, upload, state.settings)
        page_request = make_page_request(source, fields, state.settings, caller)
        identified = await asyncio.to_thread(state.engine.identify, page_request, upload.data)
        if state.budget.spent is not None and await _is_unknown(identified, state):
            state.budget.require()
        grant = state.engine.accepted.grant_upload
        await asyncio.to_thread(grant, caller.owner, identified.source.sha256)
        key = f"{caller.owner} {identified.content_key} {page_request.out} {page_request.force}"
        result, shared = await state.direct.result(page_request, key, deadline)
    except TimeoutError:
        failure: PanelworksError = Transient("too_slow", "The page was not ready in time.")
    except PanelworksError as error:
        failure = error
    else:
        count = state.metrics.count_recalled if shared or result.cached else state.metrics.count_ended
        count(result, "pages")
        return await _picture(result, page_request.out, variant or _default_variant(result), state)
    state.metrics.count_failed(failure.code, failure.fault)
    if on_failure == "error":
        raise failure
    return await asyncio.to_thread(_original, upload, failure, state)


def _default_variant(result: PageResult) -> str:
    """`high`, which most presets have; or else the largest variant, or the master of a page without variants."""
    sizes = {one.name: one.width * one.height for one in result.variants}
    return "high" if "high" in sizes else max(sizes, key=sizes.__getitem__, default="master")


async def _is_unknown(page: IngestedPage, state: GatewayState) -> bool:
    return await asyncio.to_thread(state.engine.recall, page) is None


async def _picture(result: PageResult, out: str, name: str, state: GatewayState) -> Response:
    data, media_type = await asyncio.to_thread(state.engine.jobs.delivered, result, out, name)
    headers = {"X-Panelworks-Route": str(result.route), "X-Panelworks-Cached": str(result.cached).lower()}
    return Response(data, media_type=media_type, headers=headers)


def _original(upload: Upload, failure: PanelworksError, state: GatewayState) -> Response:
    """The page as it was sent, if it is a picture."""
    try:
        media_type = MEDIA_TYPES[pictures.read_header(upload.data, state.settings).format]
    except Rejected as error:
        raise failure from error
    headers = {"X-Panelworks-Route": "original", "X-Panelworks-Error": f"{failure.code} {status_of(failure)}"}
    return Response(upload.data, media_type=media_type, headers=headers)
