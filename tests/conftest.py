"""Fixtures: real servers on loopback, isolated settings, and the folder of real pages."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from panelworks import settings as settings_module
from panelworks.page import engine as engine_module
from panelworks.page.engine import Engine
from panelworks.settings import Settings

ASSETS = Path(__file__).parents[2] / "shared" / "assets"
_OURS = (
    "S3_",
    "REDIS_URL",
    "QUALITY_",
    "UPSCALE_",
    "DEVICE",
    "MODEL_PATH",
    "LOG_LEVEL",
    "PANELWORKS_",
    "PREFECT_API",
)


_WORKERS = {("deployments", kind) for kind in ("runpod", "spot", "warm")}
"""Folders of tests that start workers and the runs in them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs: `unit`, `workers` or `live`, and `assets`."""
    for item in items:
        folders = item.path.relative_to(Path(__file__).parent).parts
        kind = "live" if folders[0] == "live" else "workers" if folders[:2] in _WORKERS else "unit"
        item.add_marker(kind)
        if "assets" in getattr(item, "fixturenames", ()):
            item.add_marker("assets")


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """What tests start hears SIGINT, also where a script has put the tests into the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test sees the settings, credentials or caches of the machine it runs on."""
    for name in list(os.environ):
        if name.startswith(_OURS) and name != "PREFECT_API_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PANELWORKS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("DEVICE", "cpu")
    _forget()
    yield
    _forget()


def _forget() -> None:
    settings_module.get_settings.cache_clear()
    engine_module.get_engine.cache_clear()


@pytest.fixture
def settings() -> Settings:
    return settings_module.get_settings()


@pytest.fixture
def engine(settings: Settings) -> Engine:
    return Engine(settings)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real pages, networks and hostile files, which only the workplace has."""
    if not ASSETS.is_dir():
        message = f"needs the real pages and networks under {ASSETS}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return ASSETS


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis of our own, stopped at the end."""
    program = shutil.which("redis-server")
    assert program, "install redis-server: `make servers`"
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _wait_for(port)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on port {port}")


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real Prefect server on a database of its own; results are kept apart from the machine's."""
    home = tmp_path_factory.mktemp("prefect")
    apart = temporary_settings({PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"})
    with apart, prefect_test_harness(server_startup_timeout=90):
        yield


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server that is spoken to over real HTTP."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket of its own, with the settings pointing to its server."""
    import boto3

    name = f"pages-{time.monotonic_ns()}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=name)
    monkeypatch.setenv("S3_ENDPOINT", s3_endpoint)
    monkeypatch.setenv("S3_BUCKET", name)
    _forget()
    return name
