"""What monitors read: `/api/health` names the components that work, `/metrics` exports the same and more.

Both read the components through one function, so that an alert never contradicts the health.
"""

import asyncio
import logging
from typing import Final

from fastapi import APIRouter, Response

from panelworks.errors import PanelworksError
from panelworks.version import __version__
from service.gateway.access import Admin, GuardedRoute
from service.gateway.metrics import ServiceState
from service.gateway.schemas import Health
from service.gateway.state import GatewayState, State

logger = logging.getLogger(__name__)
health_router = APIRouter(tags=["health"])
metrics_router = APIRouter(tags=["health"], route_class=GuardedRoute)

_MAX_READ_SECONDS: Final = 5.0
"""Half of the time that Prometheus waits: while a server accepts requests and does not answer, the gateway is up."""
_UPDATE_SECONDS: Final = 15.0


@health_router.get("/api/health")
async def health(state: State, response: Response) -> Health:
    """Whether pages can be accepted, and which part is unavailable. Anyone may request it."""
    components = await read_components(state)
    prefect = components["prefect"] == "up"
    response.status_code = 200 if prefect else 503
    status = "healthy" if prefect else "unhealthy"
    if prefect and set(components.values()) != {"up"}:
        status = "degraded"
    return Health.model_validate({"status": status, "components": components, "version": __version__})


@metrics_router.get("/metrics", response_class=Response)
async def metrics(state: State, caller: Admin) -> Response:
    """Prometheus metrics over the jobs of all keys: for admin keys."""
    await update_metrics(state)
    return Response(state.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def read_components(state: GatewayState) -> dict[str, str]:
    """Each component of the service: `up`, `down`, `paused`, or `unknown` while Prefect does not say."""
    readings = state.readings
    prefect = await readings.is_healthy()
    cache = await asyncio.to_thread(state.engine.cache_answers)
    stopped = await readings.find_stopped_services() if prefect else {}
    components = {
        "prefect": "up" if prefect else "down",
        "scheduler": "up" if prefect and not stopped else "down",
        "events": "up" if state.event_stream.connected else "down",
        "cache": "up" if cache else "down",
    }
    try:
        supply = await readings.read_supply()
        components["workers"] = "up" if any(supply.workers.values()) else "down"
        components["pools"] = "paused" if supply.is_paused else "up"
        components["supervisor"] = "up" if (await readings.read_supervisor()).is_held else "down"
    except PanelworksError:
        components |= {"workers": "unknown", "pools": "unknown", "supervisor": "unknown"}
    return components


async def update_metrics(state: GatewayState) -> None:
    """Set the metrics of the service's state, which change without a request or an event."""
    state.metrics.outages.inc(state.engine.take_outages())
    try:
        async with asyncio.timeout(_MAX_READ_SECONDS):
            state.metrics.service.state = await _read_service(state)
    except TimeoutError:
        logger.warning("state of the service not read: Prefect did not answer in %.0f s", _MAX_READ_SECONDS)
        callbacks = state.metrics.service.state.callbacks
        state.metrics.service.state = ServiceState(components={"prefect": "down"}, callbacks=callbacks)


async def watch_metrics(state: GatewayState) -> None:
    """Keep the metrics current for a scraper of METRICS_PORT, which sends no request to the gateway."""
    while True:
        try:
            await update_metrics(state)
        except Exception as error:  # noqa: BLE001 - whatever the cause, the next update may succeed
            logger.warning("metrics not updated: %s", type(error).__name__)
        await asyncio.sleep(_UPDATE_SECONDS)


async def _read_service(state: GatewayState) -> ServiceState:
    components = await read_components(state)
    callbacks = state.metrics.service.state.callbacks
    if components["prefect"] != "up":
        return ServiceState(components=components, callbacks=callbacks)
    try:
        return ServiceState(
            components=components,
            workers=(await state.readings.read_supply()).workers,
            backlogs=await state.readings.read_backlogs(),
            callbacks=(await state.readings.read_supervisor()).callbacks or callbacks,
        )
    except PanelworksError as error:
        logger.warning("state of the service not read: %s", error)
        return ServiceState(components=components, callbacks=callbacks)
