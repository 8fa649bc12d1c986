"""What `panelworks up` starts, and in which environment."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deployments.checkout import ROOT, Target
from deployments.names import POOL, gpu_limit, worker_name
from panelworks.settings import Settings
from service.prefect_server import JSON_LOGS
from service.stack.database import URL_VARIABLES, Database

_LOOPBACK: Final = "127.0.0.1"
LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "::1")
_DRAIN_SECONDS: Final = 10
"""After Ctrl-C, for pages to end: less than the stack waits for the worker. Other pages are restarted with the stack."""
PACE: Final = {
    # The server: small events and task runs are written in batches, which halves their cost.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A restart forgets leases in memory, but not the slots that they hold: the GPU's slot would never be
    # free again.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "panelworks",
    # Lines that are logged outside of runs: Prefect would add a warning of four lines to each.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""Settings of Prefect that the parts start with, unless the user chose others."""

_QUERY_SECONDS: Final = {"plain": "0.5", "warm": "3"}
"""Between two requests of a worker for runs, by its kind. The warm worker also asks when a run was scheduled or has ended;
its polls are a fallback. An idle stack uses 5 % of a core with 3 s, and 8 % with half a second."""
_NO_CSRF: Final = {"PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false"}
"""Clients do not ask for a token that our server does not have, three times a page."""
_OWN_LIMIT: Final = {"PANELWORKS_GPU_LIMIT": gpu_limit(), "PANELWORKS_GPU_LIMIT_SHARED": "false"}
"""The limit of this machine's GPU, which no other machine uses."""


@dataclass(frozen=True)
class StackPlan:
    """Addresses and numbers of a stack."""

    host: str
    """Address that the gateway listens on; the Prefect server listens on loopback only."""
    port: int
    gateway_port: int
    pages: int
    """Pages in process at the same time."""
    gpu: int | None
    """Networks that run at the same time on the device; None leaves an existing limit as it is."""
    existing_api_url: str | None
    """API of a running server; None when `up` starts one."""
    target: Target = "local"
    """Where runs go: the pool of `prefect.yaml` that the deployments are made for."""
    warm: bool = True
    """Runs share processes that stay alive; else each has its own process."""
    database: Database = "sqlite"
    """The database of the server that is started, unless a variable names one."""

    @property
    def api_url(self) -> str:
        """The server's API, as the parts of this machine reach it."""
        return self.existing_api_url or f"http://{_LOOPBACK}:{self.port}/api"

    @property
    def gateway_url(self) -> str:
        """The gateway, as this machine reaches it."""
        return f"http://{self._near}:{self.gateway_port}"

    @property
    def _near(self) -> str:
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared only

    def starts_postgres(self, environment: Mapping[str, str]) -> bool:
        """Does `up` start a Postgres of its own? Not where a variable names a database."""
        named = any(environment.get(name) for name in URL_VARIABLES)
        return self.database == "postgres" and self.existing_api_url is None and not named

    def uses_sqlite(self, environment: Mapping[str, str]) -> bool:
        """Does the server that `up` starts use SQLite?"""
        urls = [environment[name] for name in URL_VARIABLES if environment.get(name)]
        return self.existing_api_url is None and all(url.startswith("sqlite") for url in urls)

    def environment(self, settings: Settings) -> dict[str, str]:
        """The environment of the parts.

        Paths become absolute: the server, the worker and its runs stand in different folders.
        """
        out = settings.default_out
        given = dict(os.environ)
        return {
            **PACE,
            **(JSON_LOGS if settings.log_format == "json" else {}),
            "PREFECT_WORKER_QUERY_SECONDS": _QUERY_SECONDS["warm" if self.warm else "plain"],
            **({} if self._may_protect_from_csrf(given) else _NO_CSRF),
            "PREFECT_UI_API_URL": self.api_url,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{_LOOPBACK}:{self.port},http://localhost:{self.port}",
            "PREFECT_UI_URL": self.api_url.removesuffix("/api"),
            "PANELWORKS_GATEWAY_URL": self.gateway_url,
            **given,
            "PREFECT_API_URL": self.api_url,
            **({} if given.get("PANELWORKS_GPU_LIMIT") else _OWN_LIMIT),
            "PANELWORKS_OUT": out if "://" in out else str(Path(out).absolute()),
            "PANELWORKS_CACHE_DIR": str(settings.cache_dir.absolute()),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), given.get("PYTHONPATH")])),
            "PANELWORKS_RUN_COMMAND": given.get("PANELWORKS_RUN_COMMAND") or self._run_command,
        }

    def _may_protect_from_csrf(self, given: Mapping[str, str]) -> bool:
        """Could the server require CSRF tokens of its clients? Ours does so only where an operator chose it."""
        return self.existing_api_url is not None or any("CSRF_PROTECTION_ENABLED" in name for name in given)

    @property
    def _run_command(self) -> str:
        """The command that a worker starts for a run. Workers of other machines have another Python.

        A `provision` on the machine of the server writes the same as its `up`: `python` need not have Prefect there.
        """
        elsewhere = (
            self.existing_api_url is not None
            and urlsplit(self.existing_api_url).hostname not in LOOPBACK_NAMES
        )
        return f"{'python' if elsewhere else sys.executable} -m prefect.engine"

    @property
    def server_command(self) -> list[str]:
        # Whoever can call Prefect's API can run commands on the workers: it listens on loopback only.
        arguments = ("--host", _LOOPBACK, "--port", str(self.port))
        return [sys.executable, "-m", "panelworks", "server", *arguments]

    @property
    def worker_command(self) -> list[str]:
        # One more: a backfill waits for its books without using the device.
        named = ("--pool", POOL, "--name", worker_name(), "--limit", str(self.pages + 1))
        if self.warm:
            drain = ("--drain-seconds", str(_DRAIN_SECONDS))
            return [sys.executable, "-m", "panelworks", "worker", *named, *drain]
        return _prefect("worker", "start", "--type", "process", *named)

    @property
    def gateway_command(self) -> list[str]:
        arguments = ("--host", self.host, "--port", str(self.gateway_port))
        return [sys.executable, "-m", "panelworks", "gateway", *arguments]

    @property
    def supervisor_command(self) -> list[str]:
        return [sys.executable, "-m", "panelworks", "supervise"]


def _prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *arguments]
