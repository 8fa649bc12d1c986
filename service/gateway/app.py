"""The gateway: its parts and routers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from panelworks.books.review import BookReviews
from panelworks.books.views import BookViews
from panelworks.page.engine import Engine
from panelworks.page.preview import Previews
from panelworks.page.review import Reviews
from panelworks.page.views import PageViews
from panelworks.settings import Settings
from panelworks.storage.links import check_link_settings
from panelworks.version import __version__
from service.gateway import (
    backfills,
    batches,
    books,
    enhancement,
    images,
    media,
    monitoring,
    pages,
    problems,
    progress,
    results,
    reviews,
    series,
)
from service.gateway.access import Access
from service.gateway.backfill_runs import BackfillWork
from service.gateway.batch_runs import BatchRuns
from service.gateway.bodies import LargeBodies
from service.gateway.book_index import BookIndex
from service.gateway.direct_pages import BudgetWatch, DirectPages
from service.gateway.event_stream import EventStream
from service.gateway.jobs import Jobs
from service.gateway.metrics import Metrics
from service.gateway.middleware import RequestMiddleware
from service.gateway.negotiation import Conversions
from service.gateway.outbox import DecisionReports, Outbox
from service.gateway.prefect_readings import PrefectReadings
from service.gateway.result_index import ResultIndex
from service.gateway.state import GatewayState
from service.gateway.submission import Submission

_ROUTERS = (
    enhancement.router, media.router, media.media_router, progress.router, results.router, reviews.router, series.router, books.router, backfills.router, batches.router, images.router, pages.router, enhancement.events_router,
    monitoring.health_router, monitoring.metrics_router,
)  # fmt: skip

_FASTAPI_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "operation_spans": False, "logs": False}
"""FastAPI's own spans contain query strings. `RequestMiddleware` makes one span for each request instead."""


class _Gateway(FastAPI):
    """The app. All gateways of a process have the same routes: the OpenAPI document, half a second of work, is made once."""

    _document: ClassVar[dict[str, Any] | None] = None

    def openapi(self) -> dict[str, Any]:
        if _Gateway._document is None:
            _Gateway._document = super().openapi()
        return _Gateway._document


def _make_state(settings: Settings, access: Access, metrics: Metrics, jobs: Jobs) -> GatewayState:
    engine = Engine(settings)
    event_stream = EventStream(jobs, metrics, engine.accepted)
    outbox = Outbox(engine, jobs, event_stream)
    page_reviews, book_reviews = Reviews(engine), BookReviews(engine)
    results = ResultIndex(engine.ledger)
    return GatewayState(
        settings=settings,
        engine=engine,
        access=access,
        metrics=metrics,
        jobs=jobs,
        readings=PrefectReadings(jobs),
        event_stream=event_stream,
        outbox=outbox,
        submission=Submission(engine, jobs, event_stream, outbox, metrics),
        direct=DirectPages(engine),
        budget=BudgetWatch(engine, metrics),
        large_bodies=LargeBodies(),
        results=results,
        conversions=Conversions(settings),
        views=PageViews(engine),
        previews=Previews(engine),
        reviews=page_reviews,
        decisions=DecisionReports(engine, page_reviews, book_reviews, jobs),
        books=BookIndex(results, settings),
        book_views=BookViews(settings),
        book_reviews=book_reviews,
        backfills=BackfillWork(engine, jobs, event_stream),
        batches=BatchRuns(engine, jobs, event_stream, outbox, metrics),
    )


def create_app(settings: Settings, metrics: Metrics) -> FastAPI:
    """A gateway for these settings, which uses the Prefect server of Prefect's own settings.

    Raises:
        Misconfigured: the API keys or the rate limit cannot be read; links are wanted and there is no key to sign them.
    """
    access = Access(settings)
    check_link_settings(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Jobs() as jobs:
            state = app.state.gateway = _make_state(settings, access, metrics, jobs)
            watches = [
                part.run()
                for part in (
                    state.event_stream,
                    state.outbox,
                    state.budget,
                    state.decisions,
                    state.batches,
                )
            ]
            if settings.enable_metrics:
                watches.append(monitoring.watch_metrics(state))
            tasks = [asyncio.create_task(watch) for watch in watches]
            yield
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    app = _Gateway(
        title="Panelworks",
        version=__version__,
        description="Comic pages in, checked, enhanced and press-ready pages out.",
        lifespan=lifespan,
        telemetry=_FASTAPI_TELEMETRY,
    )
    for router in _ROUTERS:
        app.include_router(router)
    problems.install_error_handlers(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
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
    list(iter_route_contexts(app.routes))
    app.openapi()
    return app
