"""`panelworks gateway` and `panelworks server`: the gateway, and Prefect's API, under uvicorn."""

import os
from typing import Any, Final

from panelworks.errors import Misconfigured
from panelworks.settings import Settings, get_settings
from service.gateway.access import LOOPBACK
from service.prefect_defaults import apply_prefect_defaults
from service.prefect_server import require_server
from service.server_access import SERVER_AUTH, ServerAccess

_SHUTDOWN_SECONDS: Final = 10


def serve(host: str, port: int) -> None:
    """Serve until a signal comes.

    Raises:
        Misconfigured: `keys_needed`, other machines could call without a key; `no_server`.
    """
    settings = get_settings()
    check_address(host, settings)
    apply_prefect_defaults()
    import uvicorn

    require_server()
    from prometheus_client import start_http_server

    from service.gateway.app import create_app, start_logging
    from service.gateway.metrics import Metrics

    start_logging(settings.log_level)
    metrics = Metrics()
    app = create_app(settings, metrics)
    if settings.enable_metrics:
        start_http_server(settings.metrics_port, host, metrics.registry)
    uvicorn.run(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS, **connection_options(settings),
    )  # fmt: skip


def connection_options(settings: Settings) -> dict[str, Any]:
    """How uvicorn treats connections to the gateway: limits on headers, and proxies whose word it takes for the client."""
    from service.gateway.slow_clients import header_limited

    return {
        "http": header_limited(settings.slow_request_seconds),
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": list(settings.trusted_proxies),
    }


def check_address(host: str, settings: Settings) -> None:
    """Refuse to listen to other machines without keys.

    Raises:
        Misconfigured: `keys_needed`.
    """
    if host not in LOOPBACK and not settings.api_keys:
        raise Misconfigured(
            "keys_needed",
            f"Listening on {host} lets other machines call; set PANELWORKS_API_KEYS ('panelworks keys new NAME').",
        )


def serve_prefect_api(host: str, port: int, *, services: bool) -> None:
    """Serve Prefect's API and UI until a signal comes.

    Raises:
        Misconfigured: `auth_needed`, other machines could call without an auth string; `bad_auth_file`.
    """
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
    from deployments.server_app import serve_prefect

    serve_prefect(host, port, hosts=settings.server_hosts, services=services)
