"""What `panelworks gateway`, `panelworks server` and `panelworks worker` run."""

import asyncio
import fcntl
import os
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

from deployments.checkout import ROOT
from deployments.names import worker_name
from panelworks.domain.fields import digest_of
from panelworks.errors import Misconfigured
from panelworks.logs import start_logging
from panelworks.settings import get_settings
from panelworks.storage import sweep_places
from service.prefect_server import (
    SERVER_AUTH,
    ServerAccess,
    apply_prefect_defaults,
    require_server,
    use_json_logs,
)

_SHUTDOWN_SECONDS: Final = 10
_SERVER_WAIT_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 2.0
_PRELOADED_MODULE: Final = "flows.enhance_page"
"""What a warm process imports before its first run: everything that pages need."""


def serve(host: str, port: int) -> None:
    """Serve the gateway until a signal arrives.

    Raises:
        Misconfigured: `keys_needed`, other machines could call without a key; `no_server`.
    """
    from service.gateway.access import check_address

    settings = get_settings()
    check_address(host, settings)
    apply_prefect_defaults()
    import uvicorn

    require_server()
    from prometheus_client import start_http_server

    from service.gateway.metrics import Metrics
    from service.gateway.middleware import WithRequestId, connection_options
    from service.studio.app import create_studio

    start_logging(
        settings,
        text_format="%(asctime)s %(levelname)s [%(request_id)s] %(message)s",
        loggers=("panelworks", "service"),
        log_filter=WithRequestId(),
        replace=True,
    )
    metrics = Metrics()
    app = create_studio(settings, metrics)
    if settings.enable_metrics:
        start_http_server(settings.metrics_port, host, metrics.registry)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS, **connection_options(settings),
    )  # fmt: skip


def serve_prefect_api(host: str, port: int, *, services: bool, workers: int = 1) -> None:
    """Serve Prefect's API and UI in `workers` processes until a signal arrives.

    Raises:
        Misconfigured: `auth_needed`, other machines could call without an auth string; `bad_auth_file`;
            `services_apart`, several processes would each run the services; `workers_need_redis`.
    """
    from service.gateway.access import LOOPBACK

    if workers > 1 and services:
        raise Misconfigured(
            "services_apart",
            "Several server processes need --no-services; start `panelworks server` once more, on another port,"
            " with PREFECT_SERVER_DOCKET_NAME=prefect-services: it runs the services.",
        )
    settings = get_settings()
    if not os.environ.get(SERVER_AUTH):
        if host not in LOOPBACK:
            raise Misconfigured(
                "auth_needed",
                f"Listening on {host} lets other machines call; set {SERVER_AUTH}=user:password.",
            )
        access = ServerAccess(settings.cache_dir)
        os.environ[SERVER_AUTH], _ = access.create()
        access.add_url(f"http://{host}:{port}/api")
    apply_prefect_defaults()
    from deployments.server_app import check_shared_state, serve_prefect

    if workers > 1:
        check_shared_state()
    serve_prefect(host, port, hosts=settings.server_hosts, services=services, workers=workers)


def worker_type(*, plain: bool) -> str:
    """The type of worker to start. Warns on standard error when it is not the warm one."""
    from deployments.warm.contract import missing_names

    if plain:
        return "process"
    missing = missing_names()
    for name in missing:
        print(f"warning: {name}", file=sys.stderr)
    if missing:
        print("warning: each run gets a process of its own, which takes 2 s more", file=sys.stderr)
        return "process"
    return "panelworks-warm"


def work(
    pool: str,
    *,
    name: str | None,
    limit: int,
    plain: bool,
    runs_per_child: int,
    idle_seconds: float,
    drain_seconds: float,
    with_healthcheck: bool,
) -> None:
    """Replace this process by a worker of a `process` pool.

    Runs that an earlier worker of this name left behind are reported first, so that they are restarted at once.

    Raises:
        Misconfigured: `no_server`; `name_in_use`.
    """
    api_url = require_server()
    use_json_logs(get_settings())
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    name = acquire_name(name, f"{api_url} {pool}")
    _report_dead_runs(name, pool)
    # Prefect opens the port of the health check to all machines by default.
    os.environ.setdefault("PREFECT_WORKER_WEBSERVER_HOST", "127.0.0.1")
    sweep_places(get_settings())
    os.environ["PANELWORKS_WARM_RUNS"] = str(runs_per_child)
    os.environ["PANELWORKS_WARM_IDLE_SECONDS"] = str(idle_seconds)
    os.environ["PANELWORKS_WARM_DRAIN_SECONDS"] = str(drain_seconds)
    os.environ.setdefault("PANELWORKS_WARM_PRELOAD", _PRELOADED_MODULE)
    found = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(found))
    # A script's `&` makes its processes ignore SIGINT; but Prefect's workers receive SIGTERM as SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    watched = ["--with-healthcheck"] if with_healthcheck else []
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        pool,
        "--name",
        name,
        "--limit",
        str(limit),
        *watched,
    ]
    kind = worker_type(plain=plain)
    if kind != "process":
        from prefect.settings import PREFECT_API_SSL_CERT_FILE

        from deployments.warm.pool import certificates_environment

        os.environ.update(certificates_environment(api_url, PREFECT_API_SSL_CERT_FILE.value()))
    os.execv(sys.executable, [*command, "--type", kind])  # noqa: S606 - our own command


def acquire_name(wanted: str | None, served: str) -> str:
    """A worker's name that no other worker of this machine has, until this process ends.

    Args:
        wanted: The name; None takes the machine's, with a number for further workers.
        served: What it serves: workers of different servers or pools may have the same name.

    Raises:
        Misconfigured: `name_in_use`.
    """
    for number in count(1):
        name = wanted or (worker_name() if number == 1 else f"{worker_name()}-{number}")
        path = (
            Path(tempfile.gettempdir())
            / f"panelworks-worker-{os.getuid()}-{digest_of([served, name])[:24]}.lock"
        )
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            if wanted is not None:
                raise Misconfigured(
                    "name_in_use", f"A worker named {wanted} runs on this machine; use another --name."
                ) from None
            continue
        os.set_inheritable(lock, True)  # the worker keeps it, its children do not
        return name
    raise AssertionError


def _report_dead_runs(name: str, pool: str) -> None:
    """Report them as soon as the server answers: it may be restarting, too."""
    from service.supervisor.crashed_runs import report_dead_runs

    died, deadline = datetime.now(UTC), time.monotonic() + _SERVER_WAIT_SECONDS
    while True:
        try:
            dead = asyncio.run(report_dead_runs(name, pool, died))
        except Exception as error:  # noqa: BLE001 - the automation for missing heartbeats reports them later
            if time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)
                continue
            print(f"warning: runs of a dead worker not reported: {type(error).__name__}", file=sys.stderr)
            return
        if dead:
            print(f"{dead} runs that were running when this worker died are restarted.", flush=True)
        return
