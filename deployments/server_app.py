"""Prefect's server as `panelworks server` starts it: its own app behind the checks of `ApiGuard`.

The app comes from Prefect's public `create_app()`. Its lifespan migrates the database and runs the background
services, as under `prefect server start`.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import uvicorn
from fastapi import FastAPI
from prefect.context import SettingsContext, get_settings_context
from prefect.plugins import load_prefect_collections
from prefect.server.api import server as prefect_server
from prefect.server.concurrency.lease_storage import get_concurrency_lease_storage
from prefect.server.database.dependencies import provide_database_interface
from prefect.server.database.interface import PrefectDBInterface
from prefect.server.models import concurrency_limits_v2
from prefect.server.models.block_registration import run_block_auto_registration
from prefect.settings import Settings, get_current_settings
from pydantic import PrivateAttr
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from deployments.api_guard import ApiGuard
from deployments.long_running import collect_garbage_less_often
from deployments.names import GPU_LIMIT_PREFIX
from panelworks.errors import Misconfigured
from panelworks.settings import get_settings

logger = logging.getLogger(__name__)

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


limits: Final[Any] = concurrency_limits_v2
"""Prefect's functions for concurrency limits; their decorator hides their types."""
_LEASE_STORED_SECONDS: Final = 1.0
"""Time in which another process of the server stores the lease of a slot that it has taken."""
_MAX_LIMITS: Final = 10_000
_MAX_LEASES: Final = 10_000
_NOTHING_TO_PREPARE: Final = {
    "PREFECT_API_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
}
"""Environment of the processes of a server whose database was prepared before they started."""


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


def serve_prefect(
    host: str, port: int, *, hosts: tuple[str, ...], services: bool = True, workers: int = 1
) -> None:
    """Serve Prefect's API and UI until a signal stops it.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        hosts: Names under which the server is reached, besides loopback and those in Prefect's own URLs. Several
            processes read them from PANELWORKS_SERVER_HOSTS instead.
        services: Whether the background services run in this process.
        workers: Processes that answer requests; more than one only without services.
    """
    settings = get_current_settings()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # Prefect creates a database, but no folder
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "timeout_keep_alive": settings.server.api.keepalive_timeout,
        "ws_ping_interval": settings.server.api.websocket_ping_interval,
        "ws_ping_timeout": settings.server.api.websocket_ping_timeout,
        "log_level": settings.server.logging_level.lower(),
    }
    asyncio.run(release_lost_slots())
    if workers > 1:
        asyncio.run(prepare_database())
        os.environ.update(_NOTHING_TO_PREPARE)
        uvicorn.run(f"{__name__}:{create_worker_app.__name__}", factory=True, workers=workers, **options)
        return
    collect_garbage_less_often()
    with server_settings():
        uvicorn.run(guarded_app(hosts, webserver_only=not services), **options)


async def prepare_database() -> None:
    """Create the tables and register the types of blocks, as a server does at its start.

    Processes that do it at the same time fail: each creates the same tables.
    """
    settings = get_current_settings()
    database = provide_database_interface()
    if settings.server.database.migrate_on_start:
        await database.create_db()
    if settings.server.register_blocks_on_start:
        load_prefect_collections()
        async with await database.session() as session:
            await run_block_auto_registration(session=session)
    await (await database.engine()).dispose()


async def release_lost_slots() -> None:
    """Release slots of GPU limits that are taken and have no lease; called when a server starts.

    Prefect's server takes a slot in the database, then stores its lease (3.9.1). One that is killed in between leaves a slot
    that nothing releases, and every page would wait for it. Of the limits only those of GPUs are looked at: others may
    be taken without a lease. Other processes of this server go on meanwhile, therefore it looks twice.
    """
    database = provide_database_interface()
    try:
        lost = await _count_lost_slots(database)
        if lost:
            await asyncio.sleep(_LEASE_STORED_SECONDS)
            again = await _count_lost_slots(database)
            lost = {limit: min(slots, again.get(limit, 0)) for limit, slots in lost.items()}
        async with database.session_context(begin_transaction=True, with_for_update=True) as session:
            for limit, slots in lost.items():
                if slots:
                    await limits.bulk_decrement_active_slots(
                        session=session, concurrency_limit_ids=[limit], slots=slots
                    )
                    logger.warning(
                        "%d slots of concurrency limit %s released: they had no lease", slots, limit
                    )
    except Exception as error:  # noqa: BLE001 - the server starts anyway, and reports what else fails
        level = logging.DEBUG if _has_no_tables(error) else logging.WARNING
        logger.log(level, "slots without a lease not looked for: %s", type(error).__name__)
    finally:
        await (await database.engine()).dispose()


def _has_no_tables(error: Exception) -> bool:
    """Is it the error of a new database, in SQLite or Postgres?"""
    cause = str(error.orig) if isinstance(error, DBAPIError) else ""
    return "no such table" in cause or ("relation" in cause and "does not exist" in cause)


async def _count_lost_slots(database: PrefectDBInterface) -> dict[UUID, int]:
    """Of each limit of a GPU: slots that are taken, without those that are leased. Limits without any are left out."""
    async with database.session_context() as session:
        known = await limits.read_all_concurrency_limits(session, limit=_MAX_LIMITS, offset=0)
        chosen = get_settings().gpu_limit
        taken = {
            one.id: one.active_slots
            for one in known
            if one.name == chosen or str(one.name).startswith(GPU_LIMIT_PREFIX)
        }
    storage = get_concurrency_lease_storage()
    expired = await storage.read_expired_lease_ids(limit=_MAX_LEASES)
    for lease_id in {*expired, *await storage.read_active_lease_ids(limit=_MAX_LEASES)}:
        lease = await storage.read_lease(lease_id)
        for limit in lease.resource_ids if lease else ():
            if limit in taken:
                taken[limit] -= lease.metadata.slots if lease and lease.metadata else 0
    return {limit: slots for limit, slots in taken.items() if slots > 0}


def create_worker_app() -> ApiGuard:
    """The app of one of several processes of a server. Its settings stay in use until the process ends."""
    collect_garbage_less_often()
    server_settings().__enter__()
    return guarded_app(get_settings().server_hosts, webserver_only=True)


def check_shared_state() -> None:
    """Check that several processes can share what Prefect's server keeps.

    Raises:
        Misconfigured: `workers_need_redis`, the database is SQLite, or messages or leases are in the memory of a process.
    """
    server = get_current_settings().server
    database = server.database.connection_url
    places = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.get_secret_value() if database else "sqlite",
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": server.events.messaging_broker,
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": server.events.messaging_cache,
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": server.events.causal_ordering,
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": server.concurrency.lease_storage,
        "PREFECT_SERVER_DOCKET_URL": server.docket.url,
    }
    missing = [
        name
        for name, place in places.items()
        if place.startswith(("sqlite", "memory:")) or place.endswith(".memory")
    ]
    if missing:
        raise Misconfigured(
            "workers_need_redis",
            f"Several server processes need Postgres and Redis; deployments/compose.yaml shows how to set {', '.join(missing)}.",
        )


def guarded_app(hosts: tuple[str, ...], *, webserver_only: bool = False) -> ApiGuard:
    """Prefect's app behind the checks; names in PREFECT_UI_URL, PREFECT_UI_API_URL and PREFECT_API_URL are accepted."""
    settings = get_current_settings()
    urls = [str(url) for url in (settings.ui_url, settings.server.ui.api_url, settings.api.url) if url]
    names = {name for url in urls if (name := urlsplit(url).hostname)}
    app = prefect_server.create_app(final=True, webserver_only=webserver_only)
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
