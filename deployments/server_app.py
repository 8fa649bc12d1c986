"""Prefect's server as `panelworks server` starts it: its own app behind the checks of `ApiGuard`.

The app comes from Prefect's public `create_app()`. Its lifespan migrates the database and runs the background
services, as under `prefect server start`.
"""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from prefect.context import SettingsContext, get_settings_context
from prefect.server.api import server
from prefect.server.database.dependencies import provide_database_interface
from prefect.server.database.interface import PrefectDBInterface
from prefect.settings import Settings, get_current_settings
from pydantic import PrivateAttr
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from deployments.api_guard import ApiGuard
from deployments.long_running import collect_garbage_less_often

WRITERS: Final = frozenset(
    {
        "create_flow_run_from_deployment",
        "create_flow_run",
        "update_flow_run_labels",
        "create_task_run",
        "update_variable_by_name",
        "bulk_increment_active_slots",
        "bulk_increment_active_slots_with_lease",
    }
)
"""Endpoints by the names of their functions. Each of them uses one session, so that it cannot wait for itself."""


class ServerSettings(Settings):
    """Prefect's settings, converted to environment variables once instead of at each call.

    For each action of an automation, Prefect looks for its app by `create_app()`. That converts all settings twice,
    for the key of a cache and for the logging configuration: 0.15 s in which the server does nothing else. The
    settings of a running server do not change.
    """

    _converted: dict[tuple[bool, bool, bool], dict[str, str]] = PrivateAttr(default_factory=dict)

    def to_environment_variables(
        self, exclude_unset: bool = False, include_secrets: bool = True, include_aliases: bool = False
    ) -> dict[str, str]:
        """The settings as environment variables; a copy, which the caller may change."""
        key = (exclude_unset, include_secrets, include_aliases)
        if key not in self._converted:
            self._converted[key] = super().to_environment_variables(*key)
        return dict(self._converted[key])


@contextmanager
def server_settings() -> Iterator[None]:
    """Use `ServerSettings` in this context and in the tasks that are started from it."""
    current = get_settings_context()
    known = current.settings
    copy = ServerSettings.model_construct(_fields_set=set(known.model_fields_set), **dict(known))
    with SettingsContext(profile=current.profile, settings=copy):
        yield


def serve_prefect(host: str, port: int, *, hosts: tuple[str, ...], services: bool) -> None:
    """Serve Prefect's API and UI until a signal stops it.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        hosts: Names under which the server is reached, besides loopback and those in Prefect's own URLs.
        services: Whether the background services run in this process.
    """
    settings = get_current_settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # Prefect creates a database, but no folder
    api = settings.server.api
    collect_garbage_less_often()
    with server_settings():
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
    """Prefect's app behind the checks; names in PREFECT_UI_URL, PREFECT_UI_API_URL and PREFECT_API_URL are accepted."""
    settings = get_current_settings()
    urls = [str(url) for url in (settings.ui_url, settings.server.ui.api_url, settings.api.url) if url]
    names = {name for url in urls if (name := urlsplit(url).hostname)}
    app = server.create_app(final=True, webserver_only=webserver_only)
    begin_writers_with_lock(app)
    return ApiGuard(
        app,
        hosts=(*hosts, *names),
        # Behind a proxy, the Host header can differ from the address that the browser shows.
        origins=[str(settings.ui_url)] if settings.ui_url else [],
    )


class WritersDatabase:
    """Prefect's database for an endpoint that writes: its transactions take SQLite's write lock when they begin.

    Prefect's rule for its server is that a transaction which reads before it writes passes `with_for_update=True`.
    On SQLite that begins the transaction with `BEGIN IMMEDIATE`, which waits for the lock. The endpoints in `WRITERS`
    do not pass it (3.9.1). If another connection commits between their read and their write, they fail at once
    with "database is locked" (503), and their clients retry after seconds. This happened to most pages
    (https://github.com/PrefectHQ/prefect/issues/10188). Other databases ignore the flag.
    """

    def __init__(self, database: PrefectDBInterface) -> None:
        self._database = database

    def session_context(
        self, begin_transaction: bool = False, with_for_update: bool = False
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """Like Prefect's, but with the write lock from the beginning."""
        return self._database.session_context(begin_transaction=begin_transaction, with_for_update=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def begin_writers_with_lock(app: FastAPI) -> None:
    """Use `WritersDatabase` in the endpoints in `WRITERS`, by FastAPI's override of their dependency."""
    for api in _api_apps(app):
        api.dependency_overrides[provide_database_interface] = _database_of


def _database_of(connection: HTTPConnection) -> PrefectDBInterface | WritersDatabase:
    """The database for a request or a websocket."""
    database = provide_database_interface()
    endpoint = connection.scope.get("endpoint")
    return WritersDatabase(database) if getattr(endpoint, "__name__", "") in WRITERS else database


def _api_apps(app: FastAPI) -> Iterator[FastAPI]:
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            yield route.app
