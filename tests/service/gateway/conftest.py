"""A real gateway on loopback. The Prefect server that it knows is unavailable: what needs none is tested here."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.names import POOL
from flows.backfill import backfill
from flows.enhance_book import enhance_book
from flows.enhance_page import enhance_page
from panelworks.settings import Settings
from service.gateway.app import create_app
from service.gateway.metrics import Metrics
from service.gateway.middleware import connection_options
from service.pools import create_missing_queues
from tests.servers import free_port

Open = Callable[..., httpx.Client]
MakeApp = Callable[[Settings, Metrics], FastAPI]


@pytest.fixture
def gateway(settings: Settings, tmp_path: Path) -> Iterator[Open]:
    """Opens a gateway with some settings changed; gives a client of it."""
    with ExitStack() as stack, temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield _opener(stack, settings, tmp_path)


@pytest.fixture(scope="session")
def deployed(prefect_server: None) -> None:
    """The Prefect server has the deployments of pages. Tests that change them or their pool undo it."""
    deploy()


@pytest.fixture
def gateway_with_prefect(settings: Settings, tmp_path: Path, deployed: None) -> Iterator[Open]:
    """As `gateway`, with a Prefect server that has the deployments of pages, and no worker: jobs stay queued."""
    with ExitStack() as stack:
        yield _opener(stack, settings, tmp_path)


def _opener(stack: ExitStack, settings: Settings, tmp_path: Path) -> Open:
    def opened(**changes: Any) -> httpx.Client:
        chosen = {**settings.model_dump(), "out": str(tmp_path / "out"), **changes}
        address = stack.enter_context(serving(Settings.model_validate(chosen)))
        return stack.enter_context(httpx.Client(base_url=address, timeout=60))

    return opened


@pytest.fixture(scope="session")
def deployed_books(deployed: None) -> None:
    """The Prefect server has the deployments of books, too."""
    deploy_books()


def deploy_books() -> None:
    """Create the deployments of books and backfills, as `deploy`."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(context.run, asyncio.run, _deploy_books()).result()


async def _deploy_books() -> None:
    async with get_client() as client:
        for flow in (enhance_book, backfill):
            flow_id = await client.create_flow(flow)
            await client.create_deployment(flow_id, flow.name, work_pool_name=POOL)


def deploy() -> None:
    """Create the pool, the queues and the deployments of pages; in a thread, since Playwright's loop may run in this one."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(context.run, asyncio.run, _deploy()).result()


async def _deploy() -> None:
    async with get_client() as client:
        with suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        await create_missing_queues(client, POOL)
        flow_id = await client.create_flow(enhance_page)
        for name in ("enhance-page", "on-panel-generated", "in-the-background"):
            await client.create_deployment(flow_id, name, work_pool_name=POOL)


@contextmanager
def serving(settings: Settings, make_app: MakeApp = create_app) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(settings, Metrics()),
            host="127.0.0.1",
            port=port,
            log_level="critical",
            **connection_options(settings),
        )
    )
    # Prefect keeps its settings in the context, which a thread does not inherit by itself.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(server.run,))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
