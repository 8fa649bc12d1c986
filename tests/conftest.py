"""Fixtures for all tests: servers on loopback, isolated settings, and the folder of real pages."""

import gc
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from deployments.long_running import COLLECTION_THRESHOLDS
from panelworks import settings as settings_module
from panelworks.page import engine as engine_module
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from tests import servers
from tests.servers import Redis

ASSETS = Path(__file__).parents[2] / "shared" / "assets"
REQUIRE_ASSETS = bool(os.environ.get("PANELWORKS_REQUIRE_ASSETS"))
"""Fail the tests that need the assets where the folder is missing, instead of skipping them."""

hypothesis.settings.register_profile(
    "suite",
    parent=hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")
"""No test fails because the machine is busy. By default an example may take 200 ms."""

_SETTING_PREFIXES = (
    "S3_",
    "REDIS_URL",
    "QUALITY_",
    "UPSCALE_",
    "DEVICE",
    "MODEL_PATH",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "OTEL_",
    "PANELWORKS_",
    "PREFECT_API",
)


_WORKERS = {("deployments", kind) for kind in ("ecs", "runpod", "spot", "warm")}
"""Folders of the tests that start workers, which start runs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it needs: `unit`, `workers` or that of its folder, and `assets`."""
    for item in items:
        folders = item.path.relative_to(Path(__file__).parent).parts
        own = folders[0] in ("live", "containers", "recovery")
        kind = folders[0] if own else "workers" if folders[:2] in _WORKERS else "unit"
        item.add_marker(kind)
        if "assets" in getattr(item, "fixturenames", ()):
            item.add_marker("assets")


def pytest_collection_finish() -> None:
    """Collect garbage as seldom as a server does. Nothing is exempt: OpenVINO reports objects that are left at the end."""
    gc.set_threshold(*COLLECTION_THRESHOLDS)


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Restore Python's handler of SIGINT for the processes that tests start.

    A shell sets SIGINT to be ignored in what it starts in the background.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Hide the settings, credentials and caches of this machine from the test."""
    for name in list(os.environ):
        if name.startswith(_SETTING_PREFIXES) and name != "PREFECT_API_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PANELWORKS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv(
        "UPSCALE_SCALE", "2"
    )  # the default depends on the size of the page, and larger pages take longer
    clear_cached_settings()
    yield
    clear_cached_settings()


def clear_cached_settings() -> None:
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
    """The folder of real pages, networks and hostile files. It is not part of the repository."""
    if not ASSETS.is_dir():
        message = f"needs the real pages and networks in {ASSETS}, which is no folder"
        if REQUIRE_ASSETS:
            pytest.fail(message)
        pytest.skip(message)
    return ASSETS


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Redis server that stops at the end of the session."""
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run a Prefect server with its own database and result storage."""
    folder = tmp_path_factory.mktemp("prefect")
    isolated = temporary_settings({PREFECT_LOCAL_STORAGE_PATH: folder / "storage"})
    with servers.prefect_server(folder, **servers.WITHOUT_LOOPS), isolated:
        yield


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of an S3 server (moto)."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Create an empty bucket and point the settings to it; returns its name."""
    import boto3

    name = f"pages-{time.monotonic_ns()}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=name)
    monkeypatch.setenv("S3_ENDPOINT", s3_endpoint)
    monkeypatch.setenv("S3_BUCKET", name)
    clear_cached_settings()
    return name
