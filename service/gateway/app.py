"""The gateway, put together."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from panelworks.errors import PanelworksError
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.version import __version__
from service.gateway import enhancement, generation, health, images, pages, problems, progress
from service.gateway.access import Access
from service.gateway.client_json import LargeBodies
from service.gateway.direct_pages import BudgetWatch, DirectPages
from service.gateway.hub import Hub
from service.gateway.jobs import Jobs
from service.gateway.metrics import Metrics
from service.gateway.outbox import Outbox
from service.gateway.state import GatewayState
from service.gateway.submission import Submission
from service.gateway.wire import Wire, WithRequestId

_ROUTERS = (
    enhancement.router, progress.router, images.router, pages.router, generation.router, health.router,
    health.guarded,
)  # fmt: skip

_SUPERVISOR_CHECK_SECONDS: Final = 5.0


def create_app(settings: Settings, metrics: Metrics) -> FastAPI:
    """A gateway for these settings; it speaks to the Prefect server that PREFECT_API_URL names.

    Raises:
        Misconfigured: the API keys or the rate limit cannot be read.
    """
    access = Access(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Jobs() as jobs:
            engine = Engine(settings)
            budget = BudgetWatch(engine, metrics)
            hub = Hub(jobs, metrics, engine.accepted)
            outbox = Outbox(engine, jobs, hub)
            submission = Submission(engine, jobs, hub, outbox, metrics)
            app.state.gateway = GatewayState(
                settings, engine, access, metrics, jobs, hub, outbox, submission, DirectPages(engine), budget,
                LargeBodies(),
            )  # fmt: skip
            watches = (hub.run(), outbox.run(), budget.run(), _watch_supervisor(jobs, metrics))
            at_work = [asyncio.create_task(watch) for watch in watches]
            yield
            for task in at_work:
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
    problems.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["X-API-Key", "Authorization", "Content-Type"],
        )
    app.add_middleware(
        Wire, limit=settings.max_upload_bytes, seconds=settings.slow_request_seconds, metrics=metrics
    )
    # FastAPI builds its routes when they are first needed, under a change of the process's warning filters:
    # built here, a broken route stops the start, and two apps in one process cannot disturb each other.
    app.openapi()
    return app


async def _watch_supervisor(jobs: Jobs, metrics: Metrics) -> None:
    """Keep the counters of the supervisor current, also for a scraper of METRICS_PORT."""
    while True:
        with suppress(PanelworksError):  # health reports an unavailable server
            metrics.supervisor.callbacks = (await jobs.supervisor()).callbacks
        await asyncio.sleep(_SUPERVISOR_CHECK_SECONDS)


def start_logging(level: str) -> None:
    """Log lines carry the id of the request that they belong to."""
    handler = logging.StreamHandler()
    handler.addFilter(WithRequestId())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(request_id)s] %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in ("panelworks", "service"):
        logging.getLogger(name).setLevel(level)
