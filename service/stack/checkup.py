"""Checks of everything that the stack needs, and how to fix it."""

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Final

import httpx

from deployments.checkout import ROOT
from panelworks.errors import Misconfigured, PanelworksError
from panelworks.models.gpu import NVIDIA_DRIVER_FILE
from panelworks.settings import Settings
from panelworks.storage import open_folder
from service.gateway.access import Access, check_address
from service.prefect_server import ServerAccess
from service.stack.database import find_programs
from service.stack.plan import StackPlan

_MIN_FREE_BYTES: Final = 2 * 2**30
"""Free disk space below which the check warns."""
_DATABASE: Final = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    subject: str
    trouble: str | None
    """None when the check passed."""
    fix: str = ""
    fatal: bool = True


def findings(
    plan: StackPlan, settings: Settings, environment: dict[str, str], *, starting: bool = True
) -> Iterator[Finding]:
    """Run every check, one after the other. A stack that is running is an error only when `starting` another one."""
    yield _check("project", lambda: _project(), f"run it from a checkout that holds {ROOT / 'prefect.yaml'}")
    if plan.existing_api_url:
        yield _check("Prefect server", lambda: _server(plan), "start it, or unset PREFECT_API_URL")
    else:
        yield _check(
            "server port", lambda: _port("127.0.0.1", plan.port, starting), "choose another with --port"
        )
        if plan.starts_postgres(environment):
            yield _check("Postgres", lambda: _postgres(), "install it, or omit --database postgres")
        yield _check("database", lambda: _database(environment), f"check {_DATABASE}, and that Postgres runs")
    if plan.existing_api_url or _answers(plan):
        yield _check("background services", lambda: _services(plan, settings), "restart the Prefect server")
    yield _check(
        "gateway port",
        lambda: _port(plan.host, plan.gateway_port, starting),
        "choose another with --gateway-port",
    )
    yield _check("addresses", lambda: check_address(plan.host, settings), "or listen on 127.0.0.1")
    yield _check("gateway settings", lambda: _access(settings), "see README, Configuration")
    yield _check(
        "cache", lambda: _redis(settings), "check REDIS_URL; without Redis a local cache is used", fatal=False
    )
    yield _check(
        "device",
        lambda: _device(settings),
        "install it with: pip install -e '.[pipeline,torch]'",
        fatal=False,
    )
    for name, place in (("store", settings.store_location), ("delivery", settings.default_out)):
        if settings.s3_block and place.startswith("s3://") and plan.existing_api_url is None:
            continue  # the blocks with the keys are at the server, which is not running yet
        yield _check(f"{name} {place}", partial(_writable, place, settings), "check S3_*, or the folder")
    yield _check("privacy", lambda: _privacy(settings), "close it to other users with chmod 700", fatal=False)
    yield _check("disk", lambda: _disk(settings), "free some space, or set PANELWORKS_CACHE_DIR", fatal=False)


def _check(subject: str, check: Callable[[], None], fix: str, *, fatal: bool = True) -> Finding:
    try:
        check()
    except PanelworksError as error:
        return Finding(subject, error.message, fix, fatal)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is the finding
        return Finding(subject, f"{type(error).__name__}: {error}", fix, fatal)
    return Finding(subject, None)


def _project() -> None:
    if not (ROOT / "prefect.yaml").is_file():
        raise Misconfigured("no_project", f"There is no prefect.yaml in {ROOT}.")


def _server(plan: StackPlan) -> None:
    httpx.get(f"{plan.api_url}/health", timeout=5).raise_for_status()


def _answers(plan: StackPlan) -> bool:
    """Is a stack with these ports running?"""
    try:
        return httpx.get(f"{plan.api_url}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _services(plan: StackPlan, settings: Settings) -> None:
    import asyncio

    from prefect.client.orchestration import PrefectClient, get_client

    from service.background_services import stopped_services

    async def ask() -> dict[str, str]:
        secret = ServerAccess(settings.cache_dir).read()
        async with (
            get_client()
            if plan.existing_api_url
            else PrefectClient(plan.api_url, auth_string=secret) as client
        ):
            return await stopped_services(client)

    if found := asyncio.run(ask()):
        raise Misconfigured("services_stopped", "; ".join(found.values()))


def _port(host: str, port: int, starting: bool) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            running = _is_ours(host, port)
            if running and not starting:
                return
            owner = " by a stack that is running" if running else ""
            raise Misconfigured("port_taken", f"Port {port} of {host} is taken{owner}.") from error


def _is_ours(host: str, port: int) -> bool:
    """Does a gateway of Panelworks or a Prefect server listen there? A gateway names its components."""
    try:
        known = httpx.get(f"http://{host}:{port}/api/health", timeout=5).json()
    except (httpx.HTTPError, ValueError):
        return False
    return known is True or (isinstance(known, dict) and "components" in known)


def _postgres() -> None:
    find_programs()


def _database(environment: dict[str, str]) -> None:
    url = environment.get(_DATABASE, "")
    if not url.startswith("postgresql"):
        return
    import asyncio

    import asyncpg

    async def connect() -> None:
        connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql", 1), timeout=5)
        await connection.close()

    asyncio.run(connect())


def _access(settings: Settings) -> None:
    Access(settings)


def _redis(settings: Settings) -> None:
    if settings.redis_url is None:
        return
    from redis import Redis

    with Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2) as client:
        client.ping()


def _device(settings: Settings) -> None:
    """Without PyTorch, a machine with a GPU computes on its CPU."""
    wants_gpu = settings.device in ("auto", "cuda") and NVIDIA_DRIVER_FILE.exists()
    if wants_gpu and find_spec("torch") is None:
        raise Misconfigured(
            "no_torch", "This machine has an NVIDIA GPU, which needs PyTorch; pages use the CPU."
        )


def _writable(place: str, settings: Settings) -> None:
    open_folder(place, settings).check_usable()


def _privacy(settings: Settings) -> None:
    """The cache folder holds sources, results, logs and the server's auth string."""
    folder = settings.cache_dir
    if folder.exists() and folder.stat().st_mode & 0o007:
        raise Misconfigured("cache_is_open", f"Other users may read the cache folder {folder}.")


def _disk(settings: Settings) -> None:
    folder = settings.cache_dir.absolute()
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    if free < _MIN_FREE_BYTES:
        raise Misconfigured(
            "disk_nearly_full", f"Only {free / 2**20:.0f} MiB are free at {settings.cache_dir}."
        )
