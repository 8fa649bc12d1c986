"""Prefect's server as `panelworks server` starts it: its own app behind the checks of `ApiGuard`.

The app comes from Prefect's public `create_app()`; its lifespan migrates the database and runs the background services,
as under `prefect server start`. One lookup is patched, see `remember_server_app`.
"""

from functools import cache
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from prefect.server.api import server
from prefect.settings import get_current_settings

from deployments.api_guard import ApiGuard
from deployments.sqlite_writers import begin_writers_with_lock


def serve_prefect(host: str, port: int, *, hosts: tuple[str, ...], services: bool) -> None:
    """Serve Prefect's API and UI until a signal comes.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        hosts: Names under which the server is reached, besides loopback and those in Prefect's own URLs.
        services: Whether the background services run in this process.
    """
    settings = get_current_settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # Prefect creates a database, but no folder
    remember_server_app()

    api = settings.server.api
    uvicorn.run(
        guarded_app(hosts, webserver_only=not services),
        host=host,
        port=port,
        timeout_keep_alive=api.keepalive_timeout,
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
        log_level=settings.server.logging_level.lower(),
    )


def guarded_app(hosts: tuple[str, ...], *, webserver_only: bool = False) -> ApiGuard:
    """Prefect's app behind the checks; names in PREFECT_UI_URL, PREFECT_UI_API_URL and PREFECT_API_URL pass as well."""
    settings = get_current_settings()
    urls = [str(url) for url in (settings.ui_url, settings.server.ui.api_url, settings.api.url) if url]
    names = {name for url in urls if (name := urlsplit(url).hostname)}
    app = server.create_app(final=True, webserver_only=webserver_only)
    begin_writers_with_lock(app)
    return ApiGuard(
        app,
        hosts=(*hosts, *names),
        # Behind a proxy the Host can be another than the address that the browser shows.
        origins=[str(settings.ui_url)] if settings.ui_url else [],
    )


def remember_server_app() -> None:
    """From now on the app of this process's server is looked up once; its settings do not change while it runs.

    For each action of an automation Prefect asks for its app by `create_app()` (3.9.1), which hashes all settings and
    sets the logging up before it looks into its cache: 0.15 s in which the server does nothing else.
    """
    create, remembered = server.create_app, cache(server.create_app)

    def create_app(*arguments: Any, **named: Any) -> Any:
        return create(*arguments, **named) if arguments or named else remembered()

    theirs: Any = server
    theirs.create_app = create_app
