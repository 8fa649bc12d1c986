"""A real gateway on loopback. The Prefect server that it knows is away: what needs none is tested here."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prefect.settings import PREFECT_API_URL, temporary_settings

from panelworks.settings import Settings
from service.gateway.app import create_app
from service.gateway.metrics import Metrics
from tests.conftest import free_port

Open = Callable[..., httpx.Client]


@pytest.fixture
def gateway(settings: Settings, tmp_path: Path) -> Iterator[Open]:
    """Opens a gateway with some settings changed; gives a client of it."""
    with ExitStack() as stack, temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):

        def opened(**changes: Any) -> httpx.Client:
            chosen = {**settings.model_dump(), "out": str(tmp_path / "out"), **changes}
            changed = Settings.model_validate(chosen)
            address = stack.enter_context(_serving(changed))
            return stack.enter_context(httpx.Client(base_url=address, timeout=60))

        yield opened


@contextmanager
def _serving(settings: Settings) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings, Metrics()), host="127.0.0.1", port=port, log_level="critical")
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
