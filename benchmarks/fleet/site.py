"""The installation of a studio: Postgres, Redis, Prefect's API, its services, and workers, each in its own process."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from benchmarks.fleet.network import NAME, enhance_book
from deployments.pools import template
from tests.deployments.server import interpreter
from tests.live.postgres import Postgres
from tests.servers import Redis, free_port, until

Role = Literal["api", "services", "worker", "backfill"]
StandIn = Literal["network", "page"]
"""What is replaced by a fixed time: the network, or all processing of a page."""
POOL: Final = "fleet"
_AUTH: Final = f"panelworks:{secrets.token_urlsafe(16)}"


class Site:
    """One Prefect server with its databases. Resources of processes are counted by role."""

    def __init__(self, folder: Path, stands_in: StandIn, seconds: float, chosen: Mapping[str, str]) -> None:
        """Pages take `seconds` of the device. All processes get the settings `chosen`."""
        self.folder = folder
        self._module = f"benchmarks.fleet.{stands_in}"
        self.postgres, self.redis = Postgres(folder), Redis(folder)
        self._port = free_port()
        self.api = f"http://127.0.0.1:{self._port}/api"
        providers = folder / "providers.yaml"
        providers.write_text(f"upscale: {{model: {NAME}, config: {{seconds: {seconds}}}}}\n")
        messages, background, results = (
            f"redis://127.0.0.1:{self.redis.port}/{number}" for number in range(3)
        )
        self.environment = {
            **interpreter(),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_API_AUTH_STRING": _AUTH,
            "PREFECT_API_AUTH_STRING": _AUTH,
            "PREFECT_LOGGING_EXTRA_LOGGERS": "panelworks",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.postgres.url,
            # As deployments/compose.yaml has them.
            "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
            "PREFECT_SERVER_DOCKET_URL": background,
            "PREFECT_REDIS_MESSAGING_URL": messages,
            "PREFECT_REDIS_MESSAGING_PUBLISHER_BATCH_SIZE": "1",
            "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": messages,
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "50",
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PANELWORKS_PROVIDERS": str(providers),
            "PANELWORKS_CACHE_DIR": str(folder / "cache"),
            "REDIS_URL": results,
            "DEVICE": "cpu",
            # Threads of a hundred networks on one machine would only compete.
            "OMP_NUM_THREADS": "1",
            **chosen,
        }  # fmt: skip
        self._processes: list[tuple[Role, subprocess.Popen[bytes]]] = []

    def open(self, workers: int) -> None:
        """Start the databases and the server, `workers` processes for its API and one for its services; create the deployments."""
        self.postgres.start()
        self.redis.start()
        server = ("-m", "panelworks", "server", "--port")
        self._start("api", *server, str(self._port), "--no-services", "--workers", str(workers))
        until(self._answers, 120)
        # As in deployments/kubernetes: servers without services drop the tasks of services that they find in their queue.
        queue = {"PREFECT_SERVER_DOCKET_NAME": "prefect-services"}
        self._start("services", *server, str(free_port()), "--services", **queue)
        with temporary_settings({PREFECT_API_URL: self.api, PREFECT_API_AUTH_STRING: _AUTH}):
            asyncio.run(_deploy(self._module))

    def work(self, workers: int, *, warm: bool) -> None:
        """Start workers. Each runs one book at a time, in a new process or in one that stays."""
        prefect = ("-m", "prefect", "worker", "start", "--type", "process")
        command = ("-m", "panelworks", "worker") if warm else prefect
        for number in range(workers):
            self._start("worker", *command, "--pool", POOL, "--limit", "1", "--name", f"worker-{number}")

    def backfill(self, archive: Path, waiting: int) -> None:
        """Run a backfill of an archive and wait for its end."""
        code = (
            f"import {self._module};from flows.backfill import backfill;"
            f"backfill({str(archive)!r}, {str(self.folder / 'out' / archive.name)!r}, at_most_waiting={waiting})"
        )
        process = self._start("backfill", "-c", code)
        if process.wait():
            raise RuntimeError((self.folder / "backfill.log").read_text()[-3000:])

    def pids(self, role: Role) -> list[int]:
        """The processes of a role."""
        return [process.pid for one, process in self._processes if one == role]

    def close(self) -> None:
        """Stop all processes, workers first."""
        for role in ("backfill", "worker", "services", "api"):
            mine = [process for one, process in self._processes if one == role]
            for process in mine:
                process.send_signal(signal.SIGTERM)
            for process in mine:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.redis.stop()
        self.postgres.stop()

    def _start(self, role: Role, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - constant command lines
                [sys.executable, *arguments], env=self.environment | variables, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append((role, process))
        return process

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False


async def _deploy(module: str) -> None:
    async with get_client() as client:
        wanted = WorkPoolCreate(name=POOL, type="process", base_job_template=template("process"))
        await client.create_work_pool(wanted)
        await client.create_deployment(
            await client.create_flow(enhance_book),
            enhance_book.name,
            entrypoint=f"{module}.enhance_book",
            pull_steps=[{"deployments.checkout.enter": {}}],
            work_pool_name=POOL,
            job_variables={"command": f"{sys.executable} -m prefect.engine"},
            path=os.curdir,
        )
