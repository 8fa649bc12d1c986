"""The whole stack as `panelworks up` starts it, and requests of tests to it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from websockets import Subprotocol
from websockets.sync.client import connect

from deployments.names import POOL
from panelworks.accounting.ledger import Ledger
from panelworks.storage.local import LocalFolder
from service.emission import emit_generated
from service.prefect_server import ServerAccess
from tests.servers import ROOT, Redis, free_port, request_api, until

Message = dict[str, Any]
PROCESS_WORKER = "process-worker"
CALLBACK_SECRET = "do-not-export" * 3
DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Stack:
    """`panelworks up` as a process, with a Redis server and an S3 endpoint."""

    def __init__(self, folder: Path, redis: Redis, s3_endpoint: str, bucket: str) -> None:
        self.folder = folder
        self.redis = redis
        self.bucket = bucket
        self.port, self.gateway_port = free_port(), free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.gateway = f"http://127.0.0.1:{self.gateway_port}"
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PREFECT_", "REDIS_", "S3_"))
            },
            "PREFECT_HOME": str(folder / "prefect"),
            "PANELWORKS_CACHE_DIR": str(folder / "cache"),
            "PANELWORKS_LEASE_SECONDS": "5",
            **CREDENTIALS,
            "S3_ENDPOINT": s3_endpoint,
            "S3_BUCKET": bucket,
            "REDIS_URL": redis.url,
            "DEVICE": "cpu",
            "UPSCALE_SCALE": "2",
        }
        self._s3 = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
        self._process: subprocess.Popen[str] | None = None
        self.log = folder / "up.log"

    def start(self) -> None:
        command = [sys.executable, "-m", "panelworks", "up", "--port", str(self.port)]
        command += ["--gateway-port", str(self.gateway_port), "--pages", "2"]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        until(lambda: "Ctrl-C stops" in self.log.read_text() or self._process.poll() is not None)  # type: ignore[union-attr]
        assert self._process.poll() is None, self.log.read_text()

    def check(self) -> tuple[int, list[str]]:
        """Run `panelworks up --check`; returns the exit code and the problems it found."""
        command = [sys.executable, "-m", "panelworks", "up", "--check", "--port", str(self.port)]
        command += ["--gateway-port", str(self.gateway_port)]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        marks = ("TROUBLE", "warning")
        return done.returncode, [
            line.partition(" ")[2].strip() for line in done.stdout.splitlines() if line.startswith(marks)
        ]

    def stop(self) -> list[str]:
        """Send Ctrl-C and wait; returns the command lines of processes that still run."""
        assert self._process
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGINT)
        self._process.wait(120)
        return [" ".join(one.cmdline()) for one in family if one.is_running() and one.status() != "zombie"]

    def unexpected_errors(self) -> list[str]:
        """Lines of the server's log about requests that it failed to handle."""
        log = (self.folder / "cache" / "logs" / "server.log").read_text()
        return [line for line in log.splitlines() if "Exception in ASGI application" in line]

    def part(self, words: str) -> psutil.Process:
        """The process of a part, found by words of its command line."""
        assert self._process
        for one in psutil.Process(self._process.pid).children():
            with suppress(psutil.Error):  # it has just ended
                if words in " ".join(one.cmdline()):
                    return one
        raise AssertionError(f"there is no {words}")

    @contextmanager
    def process_worker(self, *, alone: bool = False) -> Iterator[None]:
        """Run Prefect's process worker beside the warm worker of the stack, or `alone`: the warm worker is suspended."""
        command = [
            sys.executable,
            "-m",
            "prefect",
            "worker",
            "start",
            "--pool",
            POOL,
            "--name",
            PROCESS_WORKER,
        ]
        environment = self.environment | {
            "PREFECT_API_URL": self.api,
            "PREFECT_API_AUTH_STRING": self.auth or "",
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        }
        workers, warm = f"/work_pools/{POOL}/workers", self.part("worker")
        with ExitStack() as stack, (self.folder / f"{PROCESS_WORKER}.log").open("w") as log:
            if alone:
                warm.suspend()
                stack.callback(warm.resume)
            worker = subprocess.Popen(
                [*command, "--type", "process", "--limit", "2"],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
            # For 90 s it would count as a worker of another machine, whose runs nobody here may report as crashed.
            stack.callback(self.ask, "DELETE", f"{workers}/{PROCESS_WORKER}")
            stack.callback(_stop, worker)
            until(
                lambda: PROCESS_WORKER in {one["name"] for one in self.ask("POST", f"{workers}/filter", {})}
            )
            yield

    def run_process(self, run_id: str) -> psutil.Process | None:
        """The process that executes a flow run; None if there is none. A warm process executes others, too."""
        until(lambda: bool(self.run(run_id)["infrastructure_pid"]))
        try:
            return psutil.Process(int(self.run(run_id)["infrastructure_pid"]))
        except psutil.NoSuchProcess:
            return None

    def post(self, page: bytes, name: str = "page.png", **fields: str) -> httpx.Response:
        """Upload a page to be processed."""
        wait = fields.pop("wait", "0")
        return httpx.post(
            f"{self.gateway}/api/enhancement/process?wait={wait}",
            files={"file": (name, page)},
            data=fields,
            timeout=200,
        )

    def follow(self, job_id: str, after: int = 0) -> Iterator[Message]:
        """Yield the messages of a job until the gateway closes the stream."""
        address = f"ws://127.0.0.1:{self.gateway_port}/api/enhancement/progress/{job_id}?after={after}"
        with connect(address, open_timeout=30) as socket:
            for message in socket:
                yield json.loads(message)

    @contextmanager
    def starting_tasks(self) -> Iterator[Iterator[tuple[str, str]]]:
        """Gives flow run and name of each task that starts in any run from now on. It waits for the next one."""
        now = datetime.now(UTC)
        wanted = {
            "event": {"prefix": ["prefect.task-run.Running"]},
            "occurred": {"since": now.isoformat(), "until": (now + timedelta(days=1)).isoformat()},
        }
        address = self.api.replace("http", "ws") + "/events/out"
        with connect(address, subprotocols=[Subprotocol("prefect")]) as socket:
            socket.send(json.dumps({"type": "auth", "token": self.auth}))
            assert json.loads(socket.recv(10))["type"] == "auth_success"
            socket.send(json.dumps({"type": "filter", "filter": wanted}))
            yield map(_run_and_task, socket)

    def end(self, job_id: str) -> Message:
        """Follow a job to its end; returns the last message."""
        return list(self.follow(job_id))[-1]

    def deploy_run(self, deployment: str, parameters: dict[str, Any], **more: Any) -> str:
        """Start a deployment as the Prefect UI does; returns the run's id."""
        return self.deploy_runs(deployment, parameters, 1, **more)[0]

    def deploy_runs(self, deployment: str, parameters: dict[str, Any], count: int, **more: Any) -> list[str]:
        """Start a deployment `count` times; returns the ids of the runs."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, **more}
        path = f"/deployments/{found['id']}/create_flow_run"
        return [str(self.ask("POST", path, body)["id"]) for _ in range(count)]

    def run_id(self, job_id: str) -> str:
        """Wait until a job has a flow run; returns the run's id."""
        address = f"{self.gateway}/api/enhancement/status/{job_id}"
        until(lambda: bool(httpx.get(address, timeout=30).json().get("flow_run_id")))
        return str(httpx.get(address, timeout=30).json()["flow_run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """Read a flow run from the server."""
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{run_id}")
        return found

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to Prefect's API; returns the decoded answer."""
        return request_api(method, path, body, api=self.api, auth=self.auth)

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait until a run has ended and return it. A crashed run is restarted and has not ended."""
        final = ("COMPLETED", "FAILED", "CANCELLED")
        until(lambda: self.run(run_id)["state_type"] in final, poll_seconds=1)
        return self.run(run_id)

    @property
    def auth(self) -> str | None:
        """`user:password` of Prefect's API."""
        return ServerAccess(self.folder / "cache").read()

    def emit(self, source: str, **given: Any) -> str:
        """Emit the event of a generated panel; returns the job id."""
        with temporary_settings({PREFECT_API_URL: self.api, PREFECT_API_AUTH_STRING: self.auth}):
            return emit_generated(source, **given)["job_id"]

    def emit_by_command(self, *arguments: str) -> str:
        """Run `panelworks emit`; returns the job id."""
        command = [sys.executable, "-m", "panelworks", "emit", *arguments, "--json"]
        environment = {**self.environment, "PREFECT_API_URL": self.api}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return str(json.loads(done.stdout)["job_id"])

    def put(self, key: str, data: bytes) -> str:
        """Store an object in the bucket; returns its URI."""
        self._s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        return f"s3://{self.bucket}/{key}"

    def get(self, uri: str) -> bytes:
        """Read the bytes of an object."""
        match = re.fullmatch(r"s3://([^/]+)/(.*)", uri)
        assert match
        body: bytes = self._s3.get_object(Bucket=match[1], Key=match[2])["Body"].read()
        return body

    def keys(self, part: str) -> list[str]:
        """Keys of the bucket that contain `part`."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        found = [one["Key"] for page in pages for one in page.get("Contents", [])]
        return [key for key in found if part in key]

    def rows(self) -> Any:
        """The rows of the ledger, as a pandas table."""
        return Ledger(LocalFolder(self.folder / "cache" / "ledger")).read()

    def metrics(self) -> str:
        return httpx.get(f"{self.gateway}/metrics", timeout=30).raise_for_status().text


def _stop(worker: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM up to four times: Prefect turns the first into a SIGINT, which background processes may ignore."""
    for _ in range(4):
        worker.terminate()
        try:
            worker.wait(15)
        except subprocess.TimeoutExpired:
            continue
        return
    worker.kill()
    worker.wait()


def _run_and_task(message: str | bytes) -> tuple[str, str]:
    """The flow run and the name of the task run of an event."""
    event = json.loads(message)["event"]
    runs = [one for one in event["related"] if one["prefect.resource.role"] == "flow-run"]
    run = runs[0]["prefect.resource.id"].removeprefix("prefect.flow-run.")
    return run, event["resource"]["prefect.resource.name"]
