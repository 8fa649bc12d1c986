"""Routes for those who watch the gateway: health and metrics."""

import asyncio

from fastapi import APIRouter, Response

from panelworks.errors import PanelworksError, Transient
from panelworks.version import __version__
from service.gateway.access import Admin, GuardedRoute
from service.gateway.shapes import Health
from service.gateway.state import State

router = APIRouter(tags=["health"])
guarded = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get("/api/health")
async def health(state: State, response: Response) -> Health:
    """Can pages be taken? Open to all, so it says no more than that."""
    prefect = await state.jobs.healthy()
    cache = await asyncio.to_thread(state.engine.cache_answers)
    stopped = await state.jobs.stopped_services() if prefect else {}
    components = {
        "prefect": "up" if prefect else "down",
        "scheduler": "up" if prefect and not stopped else "down",
        "events": "up" if state.hub.connected else "down",
        "cache": "up" if cache else "down",
    }
    try:
        components |= await state.jobs.supply()
        components["supervisor"] = "up" if (await state.jobs.supervisor()).is_held else "down"
    except PanelworksError:
        components |= {"workers": "unknown", "pools": "unknown", "supervisor": "unknown"}
    response.status_code = 200 if prefect else 503
    status = "healthy" if prefect else "unhealthy"
    if prefect and set(components.values()) != {"up"}:
        status = "degraded"
    return Health.model_validate({"status": status, "components": components, "version": __version__})


@guarded.get("/metrics", response_class=Response)
async def metrics(state: State, caller: Admin) -> Response:
    """Figures in Prometheus' format, over the jobs of all keys: for admin keys."""
    try:
        for queue, depth in (await state.jobs.depth()).items():
            state.metrics.depth.labels(queue).set(depth)
    except Transient:
        state.metrics.depth.clear()
    state.metrics.outages.inc(state.engine.take_outages())
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
