"""On SQLite, requests that read before they write take the write lock when they begin.

Prefect's rule for its server is that such transactions pass `with_for_update=True`, which makes SQLite `BEGIN IMMEDIATE`
and wait for its turn. These endpoints of 3.9.1 do not: when another connection commits between their read and their
write, they fail at once with "database is locked" (503), and their clients repeat them after pauses of seconds. It
happened to most pages (https://github.com/PrefectHQ/prefect/issues/10188). The change is an override of FastAPI's
for the dependency that gives endpoints the database; other databases ignore the flag.
"""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from fastapi import FastAPI, Request
from prefect.server.database.dependencies import provide_database_interface
from prefect.server.database.interface import PrefectDBInterface
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.routing import Mount

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
"""Endpoints by the names of their functions. All of them use one session, so that they cannot wait for themselves."""


class WritersDatabase:
    """Prefect's database for an endpoint that writes."""

    def __init__(self, database: PrefectDBInterface) -> None:
        self._database = database

    def session_context(
        self, begin_transaction: bool = False, with_for_update: bool = False
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """As Prefect's, with the write lock from the beginning."""
        return self._database.session_context(begin_transaction=begin_transaction, with_for_update=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def begin_writers_with_lock(app: FastAPI) -> None:
    """Have the endpoints of Prefect's app that are named above begin as writers."""
    for api in _api_apps(app):
        api.dependency_overrides[provide_database_interface] = _database_of


def _database_of(request: Request) -> PrefectDBInterface | WritersDatabase:
    database = provide_database_interface()
    endpoint = request.scope.get("endpoint")
    return WritersDatabase(database) if getattr(endpoint, "__name__", "") in WRITERS else database


def _api_apps(app: FastAPI) -> Iterator[FastAPI]:
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            yield route.app
