"""The gateway with the studio: its routers, templates and static files."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from panelworks.settings import Settings
from service.gateway.app import create_app
from service.gateway.metrics import Metrics
from service.studio import again, backfills, books, compare, queue, results, review, series, system
from service.studio.callers import show_http_error
from service.studio.rendering import FOLDER


def create_studio(settings: Settings, metrics: Metrics) -> FastAPI:
    """A gateway for these settings that also serves the studio.

    Raises:
        Misconfigured: as `create_app`.
    """
    app = create_app(settings, metrics)
    for router in (
        system.login_router,
        system.router,
        queue.router,
        again.router,
        compare.router,
        results.router,
        review.router,
        backfills.router,
        books.router,
        series.router,
    ):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.mount("/studio/static", StaticFiles(directory=FOLDER / "static"))
    return app


async def _show_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return show_http_error(request, error)
