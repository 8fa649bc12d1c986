"""The gateway: its parts, routers, health and metrics."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from fastapi import APIRouter, FastAPI, Response
from starlette.middleware.cors import CORSMiddleware

from panelworks.errors import PanelworksError, Transient
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.version import __version__
from service.gateway import enhancement, images, pages, problems, progress
from service.gateway.access import Access, Admin, GuardedRoute
from service.gateway.bodies import LargeBodies
from service.gateway.direct_pages import BudgetWatch, DirectPages
from service.gateway.event_stream import EventStream
from service.gateway.jobs import Jobs
from service.gateway.metrics import Metrics
from service.gateway.middleware import RequestMiddleware, WithRequestId
from service.gateway.outbox import Outbox
from service.gateway.schemas import Health
from service.gateway.state import GatewayState, State
from service.gateway.submission import Submission

_health_router = APIRouter(tags=["health"])
_metrics_router = APIRouter(tags=["health"], route_class=GuardedRoute)


@_health_router.get("/api/health")
async def health(state: State, response: Response) -> Health:
    """Whether pages can be accepted, and which part is unavailable. Anyone may request it."""
    prefect = await state.jobs.is_healthy()
    cache = await asyncio.to_thread(state.engine.cache_answers)
    stopped = await state.jobs.find_stopped_services() if prefect else {}
    components = {
        "prefect": "up" if prefect else "down",
        "scheduler": "up" if prefect and not stopped else "down",
        "events": "up" if state.event_stream.connected else "down",
        "cache": "up" if cache else "down",
    }
    try:
        components |= await state.jobs.read_supply()
        components["supervisor"] = "up" if (await state.jobs.read_supervisor()).is_held else "down"
    except PanelworksError:
        components |= {"workers": "unknown", "pools": "unknown", "supervisor": "unknown"}
    response.status_code = 200 if prefect else 503
    status = "healthy" if prefect else "unhealthy"
    if prefect and set(components.values()) != {"up"}:
        status = "degraded"
    return Health.model_validate({"status": status, "components": components, "version": __version__})


@_metrics_router.get("/metrics", response_class=Response)
async def metrics(state: State, caller: Admin) -> Response:
    """Prometheus metrics over the jobs of all keys: for admin keys."""
    try:
        for queue, depth in (await state.jobs.count_waiting()).items():
            state.metrics.depth.labels(queue).set(depth)
    except Transient:
        state.metrics.depth.clear()
    state.metrics.outages.inc(state.engine.take_outages())
    return Response(state.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


_ROUTERS = (
    enhancement.router, progress.router, images.router, pages.router, enhancement.events_router,
    _health_router, _metrics_router,
)  # fmt: skip

_SUPERVISOR_CHECK_SECONDS: Final = 5.0


def create_app(settings: Settings, metrics: Metrics) -> FastAPI:
    """A gateway for these settings, which uses the Prefect server of Prefect's own settings.

    Raises:
        Misconfigured: the API keys or the rate limit cannot be read.
    """
    access = Access(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Jobs() as jobs:
            engine = Engine(settings)
            budget = BudgetWatch(engine, metrics)
            event_stream = EventStream(jobs, metrics, engine.accepted)
            outbox = Outbox(engine, jobs, event_stream)
            submission = Submission(engine, jobs, event_stream, outbox, metrics)
            app.state.gateway = GatewayState(
                settings, engine, access, metrics, jobs, event_stream, outbox, submission, DirectPages(engine), budget,
                LargeBodies(),
            )  # fmt: skip
            watches = (event_stream.run(), outbox.run(), budget.run(), _watch_supervisor(jobs, metrics))
            tasks = [asyncio.create_task(watch) for watch in watches]
            yield
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    app = FastAPI(
        title="Panelworks",
        version=__version__,
        description="Comic pages in, checked, enhanced and press-ready pages out.",
        lifespan=lifespan,
    )
    for router in _ROUTERS:
        app.include_router(router)
    problems.install_error_handlers(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["X-API-Key", "Authorization", "Content-Type"],
        )
    app.add_middleware(
        RequestMiddleware,
        limit=settings.max_upload_bytes,
        seconds=settings.slow_request_seconds,
        metrics=metrics,
    )
    # FastAPI builds its routes at the first request, and changes the process's warning filters meanwhile.
    # Built here, a broken route prevents the start, and two apps in one process do not disturb each other.
    app.openapi()
    return app


async def _watch_supervisor(jobs: Jobs, metrics: Metrics) -> None:
    """Keep the counters of the supervisor current, also for a scraper of METRICS_PORT."""
    while True:
        with suppress(PanelworksError):  # health reports an unavailable server
            metrics.supervisor.callbacks = (await jobs.read_supervisor()).callbacks
        await asyncio.sleep(_SUPERVISOR_CHECK_SECONDS)


def start_logging(level: str) -> None:
    """Log to standard error. Each line has the id of its request."""
    handler = logging.StreamHandler()
    handler.addFilter(WithRequestId())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(request_id)s] %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("panelworks", "service"):
        logging.getLogger(name).setLevel(level)
