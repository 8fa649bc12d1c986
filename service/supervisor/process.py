"""`panelworks supervise`: runs the supervisor's loops, serves its health endpoint and stops it."""

import asyncio
import json
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from panelworks.logs import start_logging
from panelworks.page.engine import Engine
from panelworks.page.purging import Purges
from panelworks.settings import Settings, get_settings
from service.prefect_server import apply_prefect_defaults, require_server
from service.supervisor.budget import BudgetEnforcer
from service.supervisor.callback_delivery import CallbackDelivery, follow_ended_pages
from service.supervisor.crashed_runs import restart_crashed_runs
from service.supervisor.leadership import LEASE_SECONDS, Leadership

logger = logging.getLogger(__name__)

_HEALTH_HOST: Final = "127.0.0.1"
_PURGE_INTERVAL_SECONDS: Final = 60.0
"""Between two listings of the pending purges."""


def supervise(health_port: int | None = None, *, lease_seconds: float = LEASE_SECONDS) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        health_port: Port on the loopback address. `GET /health` answers 200 while the Prefect server answers requests
            about the lease, otherwise 503.
        lease_seconds: Time without a renewal after which another supervisor takes over the lease.

    Raises:
        Misconfigured: `no_server`, `bad_auth_file`.
    """
    apply_prefect_defaults()
    require_server()
    settings = get_settings()
    start_logging(
        settings,
        text_format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        loggers=("panelworks", "service"),
        replace=True,
    )
    leadership = Leadership(lease_seconds)
    with _serve_health(leadership, health_port):
        asyncio.run(_run_until_stopped(settings, leadership))


async def _run_until_stopped(settings: Settings, leadership: Leadership) -> None:
    """Run the loops until a signal arrives, then stop them and release the lease."""
    stop_requested = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop_requested.set)
    logger.info("supervisor started")
    loops_task = asyncio.create_task(run_loops(settings, leadership))
    stop_task = asyncio.create_task(stop_requested.wait())
    await asyncio.wait({loops_task, stop_task}, return_when=asyncio.FIRST_COMPLETED)
    loops_task.cancel()
    stop_task.cancel()
    outcomes = await asyncio.gather(loops_task, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    logger.info("supervisor stopped")


async def run_loops(settings: Settings, leadership: Leadership) -> None:
    """Supervise until cancelled. An error in one loop ends all of them."""
    engine = Engine(settings)
    delivery = CallbackDelivery(engine.callbacks, settings, leadership)
    async with asyncio.TaskGroup() as group:
        group.create_task(restart_crashed_runs(engine, leadership))
        group.create_task(BudgetEnforcer(engine, leadership).run())
        group.create_task(delivery.run())
        group.create_task(follow_ended_pages(delivery))
        group.create_task(report_purges(engine.purges, leadership))
        group.create_task(leadership.run())


async def report_purges(purges: Purges, leadership: Leadership) -> None:
    """Report the replaced objects that other processes could not report to CDNs, while this supervisor leads.

    Ends at once without a CDN.
    """
    while purges.is_wanted:
        await asyncio.sleep(_PURGE_INTERVAL_SECONDS)
        if leadership.leads:
            await asyncio.to_thread(purges.report_pending)


@contextmanager
def _serve_health(leadership: Leadership, port: int | None) -> Iterator[None]:
    """Answer `GET /health` in a thread until the end of the block; without a port, do nothing."""
    if port is None:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/health"
            status = "healthy" if leadership.is_connected else "unhealthy"
            body = json.dumps({"status": status, "leads": leadership.leads}).encode() if known else b""
            self.send_response(404 if not known else 200 if leadership.is_connected else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Requests for health are not logged."""

    server = ThreadingHTTPServer((_HEALTH_HOST, port), Handler)
    thread = threading.Thread(target=server.serve_forever, name="panelworks-health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
