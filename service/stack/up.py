"""Starting the stack, restarting its parts, stopping it."""

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Final

import httpx

from deployments.names import POOL, worker_name
from panelworks.errors import Misconfigured
from panelworks.settings import Settings, get_settings
from service.prefect_server import CLIENT_AUTH, SERVER_AUTH, ServerAccess, apply_prefect_defaults
from service.stack.checkup import Finding, findings
from service.stack.database import URL_VARIABLES, Cluster, cluster_folder
from service.stack.parts import Part, Watch
from service.stack.plan import StackPlan

_START_SECONDS: Final = 180.0
"""How long a part may take to become healthy: a first start creates a database."""
_CHECK_INTERVAL_SECONDS: Final = 1.0
_DEAD_RUNS_SECONDS: Final = 120.0
"""For how long after the worker's death the runs that died with it are searched: longer than a worker of another machine
counts as alive after it was stopped, because nothing is reported meanwhile."""


def check_up(plan: StackPlan) -> int:
    """Print the outcome of every check; returns the exit code."""
    settings = get_settings()
    found = list(findings(plan, settings, plan.environment(settings), starting=False))
    for finding in found:
        print(_line(finding))
    return 1 if any(finding.trouble and finding.fatal for finding in found) else 0


def bring_up(plan: StackPlan) -> int:
    """Start the parts, serve until Ctrl-C or SIGTERM, stop all parts; returns the exit code."""
    settings = get_settings()
    environment = plan.environment(settings)
    troubles = [finding for finding in findings(plan, settings, environment) if finding.trouble]
    for finding in troubles:
        print(_line(finding), file=sys.stderr)
    if any(finding.fatal for finding in troubles):
        return 1
    access = ServerAccess(settings.cache_dir)
    environment |= {} if plan.existing_api_url else _authentication(plan, access, environment)
    # Prefect's client in this process reads these at its import.
    os.environ.update(environment)
    apply_prefect_defaults()
    return _Stack(plan, settings, environment).run()


def _authentication(plan: StackPlan, access: ServerAccess, environment: dict[str, str]) -> dict[str, str]:
    """The auth string of the server and its clients: what the user chose, else the secret of this installation."""
    chosen = environment.get(SERVER_AUTH) or environment.get(CLIENT_AUTH)
    if chosen:
        return {SERVER_AUTH: chosen, CLIENT_AUTH: environment.get(CLIENT_AUTH) or chosen}
    secret, made = access.create()
    access.add_url(plan.api_url)
    if made:
        print(f"Created the auth string of Prefect's API and UI: {secret}\nIt is stored in {access.path}.")
    return {SERVER_AUTH: secret, CLIENT_AUTH: secret}


def provision_server(plan: StackPlan, *, overwrite: bool = False) -> int:
    """Provision a running server as `up` does, and print the differences; returns the exit code."""
    environment = plan.environment(get_settings())
    os.environ.update(environment)
    from service.stack.provision import provision

    for difference in asyncio.run(provision(plan, environment, overwrite=overwrite)):
        print(difference)
    print(f"{plan.api_url} has the pool, queues, limits, blocks, automations and deployments.")
    return 0


class _Stack:
    def __init__(self, plan: StackPlan, settings: Settings, environment: dict[str, str]) -> None:
        self._plan = plan
        self._settings = settings
        self._environment = environment
        self._logs = settings.cache_dir.absolute() / "logs"
        self._watches: list[Watch] = []
        self._cluster: Cluster | None = None
        self._stopping = False
        self._dead_since = 0.0
        self._died = datetime.now(UTC)

    def run(self) -> int:
        # A shell that starts a process in the background has it, and therefore its parts, ignore SIGINT.
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGTERM, self._stop)
        try:
            self._start()
            self._print_addresses()
            while not self._stopping:
                for watch in self._watches:
                    self._restart_if_dead(watch)
                time.sleep(_CHECK_INTERVAL_SECONDS)
        except (Misconfigured, _Stopped) as end:
            if isinstance(end, Misconfigured):
                print(f"panelworks: {end}", file=sys.stderr)
                return 1
        finally:
            self._stop_all()
        return 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self) -> None:
        from service.stack.provision import provision
        from service.supervisor.crashed_runs import report_dead_runs

        plan = self._plan
        if plan.existing_api_url:
            self._wait(None, lambda: _responds(f"{plan.api_url}/health"))
        else:
            database = self._start_postgres() if plan.starts_postgres(self._environment) else {}
            server = {**self._environment, **database}
            self._part("server", plan.server_command, lambda: _responds(f"{plan.api_url}/health"), server)
        for difference in asyncio.run(provision(plan, self._environment)):
            print(difference, flush=True)
        dead = asyncio.run(report_dead_runs(worker_name(), POOL, datetime.now(UTC)))
        if dead:
            print(f"{dead} pages that were running when the stack stopped are restarted.", flush=True)
        supervisor = self._begin("supervisor", plan.supervisor_command)
        self._part("worker", plan.worker_command, _worker_is_up)
        self._part("gateway", plan.gateway_command, lambda: _responds(f"{plan.gateway_url}/api/health"))
        self._wait(supervisor, _supervisor_is_up)

    def _start_postgres(self) -> dict[str, str]:
        """Start the database of this installation; returns the server's variable with its address."""
        cluster = self._cluster = Cluster(cluster_folder(self._settings.cache_dir))
        cluster.create()
        plain = {"PATH": os.defpath, "LANG": "C.UTF-8"}  # the user that runs it receives none of our secrets
        self._part("postgres", cluster.command, cluster.answers, plain, cluster.user)
        return {URL_VARIABLES[0]: cluster.url}

    def _part(
        self,
        name: str,
        command: list[str],
        healthy: Callable[[], bool],
        environment: dict[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        """Start a part, as `user` if it is given, and wait until it is healthy."""
        self._wait(self._begin(name, command, environment, user), healthy)

    def _begin(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str] | None = None,
        user: str | None = None,
    ) -> Part:
        """Start a part without waiting for it."""
        print(f"{name} ...", flush=True)
        part = Part(name, command, environment or self._environment, self._logs, user)
        self._watches.append(Watch(part))
        part.start()
        return part

    def _wait(self, part: Part | None, healthy: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not healthy():
            if self._stopping:
                raise _Stopped
            if part is not None and not part.running:
                raise Misconfigured("part_died", f"The {part.name} did not start:\n{part.read_log_end()}")
            if time.monotonic() > deadline:
                name = part.name if part else "Prefect server"
                raise Misconfigured(
                    "part_silent", f"The {name} did not answer within {_START_SECONDS:.0f} seconds."
                )
            time.sleep(0.2)

    def _restart_if_dead(self, watch: Watch) -> None:
        message = watch.check()
        if message:
            print(message, file=sys.stderr, flush=True)
            if watch.part.name == "worker":
                self._dead_since, self._died = time.monotonic(), datetime.now(UTC)
        if watch.part.name == "worker" and watch.part.running and self._dead_since:
            self._report_dead_runs()

    def _report_dead_runs(self) -> None:
        """Report the runs that died with the worker, a few times: the server may be busy."""
        from service.supervisor.crashed_runs import report_dead_runs

        try:
            asyncio.run(report_dead_runs(worker_name(), POOL, self._died))
        except Exception as error:  # noqa: BLE001 - the automation for missing heartbeats reports them later
            print(f"Runs of the dead worker not reported yet: {type(error).__name__}.", file=sys.stderr)
        if time.monotonic() - self._dead_since > _DEAD_RUNS_SECONDS:
            self._dead_since = 0.0

    def _print_addresses(self) -> None:
        plan, out = self._plan, self._environment["PANELWORKS_OUT"]
        login, authorized, cached = self._access_hints()
        database = (
            "SQLite; for more than a few pages at a time use 'panelworks up --database postgres' (docs/how-to/live.md)"
            if self._cluster is None and plan.uses_sqlite(self._environment)
            else "as the Prefect server has it"
            if plan.existing_api_url
            else "Postgres"
        )
        print(
            f"""
Panelworks is up. Pages are delivered to {out}; logs are in {self._logs}.

  Prefect UI   {plan.api_url.removesuffix("/api")}
  Log in       {login}
  Studio       {plan.gateway_url}/
  Gateway      {plan.gateway_url}/docs

  In the UI    Deployments, enhance-page, Run, Custom run
  HTTP         curl -F file=@page.png '{plan.gateway_url}/api/enhancement/process?wait=60'
  Page in/out  curl -F image=@page.png {plan.gateway_url}/api/pages -o better.webp
  Event        {cached}PREFECT_API_URL={plan.api_url} panelworks emit https://example.com/panel.png
  Prefect      {authorized}PREFECT_API_URL={plan.api_url} prefect deployment run enhance-page/enhance-page -p source=$PWD/page.png
  Metrics      {plan.gateway_url}/metrics
  Database     {database}

Ctrl-C stops everything.""",
            flush=True,
        )

    def _access_hints(self) -> tuple[str, str, str]:
        """How to log in to the UI; what must precede Prefect's commands and ours so that they have access."""
        cache_dir = self._settings.cache_dir.absolute()
        access, presented = ServerAccess(cache_dir), self._environment.get(CLIENT_AUTH)
        if presented is None:
            return "not needed", "", ""
        if presented != access.read():
            return f"with the value of {CLIENT_AUTH}", "", ""
        default = Settings.model_fields["cache_dir"].get_default(call_default_factory=True, validated_data={})
        elsewhere = f"PANELWORKS_CACHE_DIR={shlex.quote(str(cache_dir))} " if cache_dir != default else ""
        return (
            f"with the text of {access.path}",
            f'{CLIENT_AUTH}="$(cat {shlex.quote(str(access.path))})" ',
            elsewhere,
        )

    def _stop_all(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for watch in reversed(self._watches):
            if watch.part.starts:
                print(f"stopping the {watch.part.name} ...", flush=True)
                watch.part.stop()
        if self._cluster is not None:
            self._cluster.remove_socket_folder()


class _Stopped(Exception):
    """Ctrl-C while the stack was starting."""


def _responds(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _worker_is_up() -> bool:
    from service.stack.provision import our_worker_is_online

    try:
        return asyncio.run(our_worker_is_online())
    except httpx.HTTPError:
        return False


def _supervisor_is_up() -> bool:
    from prefect.client.orchestration import get_client

    from service.supervisor.leadership import read_lease_status

    async def is_up() -> bool:
        async with get_client() as client:
            return (await read_lease_status(client)).is_held

    try:
        return asyncio.run(is_up())
    except httpx.HTTPError:
        return False


def _line(finding: Finding) -> str:
    if finding.trouble is None:
        return f"ok       {finding.subject}"
    kind = "TROUBLE" if finding.fatal else "warning"
    return f"{kind}  {finding.subject}: {finding.trouble}\n         {finding.fix}"
