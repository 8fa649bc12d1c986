"""Real servers on loopback for tests: HTTP, Redis and Prefect; and requests to Prefect's API."""

import contextlib
import fcntl
import hashlib
import http.server
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings

ROOT = Path(__file__).parents[1]
AUTH = "panelworks:for-tests"
"""User and password of Prefect servers that require them."""
TIMEOUT_SECONDS = 180.0
FIRST_POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 0.6
POLL_GROWTH = 1.3
"""Factor between the pauses of a waiting test. Short waits end soon, and long ones do not keep the server busy."""
MAX_REQUESTS = 60
PAUSE_SECONDS = 0.5
RETRIED_STATUSES = {
    httpx.codes.REQUEST_TIMEOUT,
    httpx.codes.TOO_MANY_REQUESTS,
    httpx.codes.BAD_GATEWAY,
    httpx.codes.SERVICE_UNAVAILABLE,
}


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """Base of the handlers: does not log to the terminal."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


@contextmanager
def serving(handler: type[QuietHandler]) -> Iterator[str]:
    """Serve until the end of the block; yields the address, such as `http://127.0.0.1:40123`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def request_api(
    method: str,
    path: str,
    body: Any = None,
    *,
    api: str | None = None,
    auth: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Send a request to a Prefect API and return the decoded JSON of its answer; None without a body.

    `api` and `auth` ("user:password") are those of Prefect's settings by default.

    A server on SQLite answers 503 while another writer locks the database. The request is repeated
    then and after connection errors, as Prefect's own client does. Tests that are about the status
    itself call httpx instead.
    """
    user, _, password = (auth or PREFECT_API_AUTH_STRING.value() or "").partition(":")
    last: httpx.Response | httpx.HTTPError | None = None
    for _ in range(MAX_REQUESTS):
        try:
            last = httpx.request(
                method,
                f"{api or PREFECT_API_URL.value()}{path}",
                json=body,
                auth=(user, password) if user else None,
                headers=headers,
                timeout=30,
            )
        except httpx.TransportError as error:
            last = error
        else:
            if last.status_code not in RETRIED_STATUSES:
                assert last.is_success, f"{method} {path}: {last.status_code} {last.text}"
                return last.json() if last.content else None
        time.sleep(PAUSE_SECONDS)
    raise AssertionError(f"{method} {path} failed {MAX_REQUESTS} times: {last!r}")


def wait_for_triggers() -> None:
    """Wait until the server evaluates the automations that were created or changed before this call.

    Prefect loads a changed automation after it has answered the request, one after the other. An event in between
    is lost. A further automation shows that those before it are loaded: it acts on its event.
    """
    event_name = f"panelworks.test.{uuid.uuid4()}"
    probe = {
        "name": event_name,
        "trigger": {"type": "event", "expect": [event_name], "posture": "Reactive", "threshold": 1},
        "actions": [{"type": "do-nothing"}],
    }
    automation = f"prefect.automation.{request_api('POST', '/automations/', probe)['id']}"
    triggered = {"event": {"name": ["prefect.automation.triggered"]}, "resource": {"id": [automation]}}

    def is_triggered() -> bool:
        emit_event({"event": event_name, "resource": {"prefect.resource.id": "panelworks.test"}})
        return bool(request_api("POST", "/events/filter", {"filter": triggered})["events"])

    until(is_triggered, 60)


def emit_event(event: Mapping[str, Any]) -> str:
    """Emit an event; returns its id. It occurs now unless it says when."""
    identity = str(uuid.uuid4())
    request_api("POST", "/events", [{"id": identity, "occurred": datetime.now(UTC).isoformat(), **event}])
    return identity


class Redis:
    """A Redis server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [
            "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until(lambda: listens(self.port))

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def stop(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()


WITHOUT_LOOPS = {
    f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false"
    for name in ("SCHEDULER", "LATE_RUNS", "PAUSE_EXPIRATIONS", "FOREMAN", "DB_VACUUM")
}
"""Settings of a server without the services that do something every few seconds. They cost it half of its idle time."""
PREPARE = (
    "import asyncio; from deployments.server_app import prepare_database; asyncio.run(prepare_database())"
)
"""Program that prepares a database."""
PREPARED = {
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
}
"""Settings of a server that starts on a copy of `prepared_database()`."""


def prepared_database() -> Path:
    """An SQLite database with Prefect's tables and types of blocks.

    A server starts in less than half the CPU time on a copy of it. All test processes share one file for each set
    of versions of Prefect's packages, in pytest's cache folder.
    """
    packages = sorted(
        f"{one.name}-{one.version}" for one in distributions() if one.name.startswith("prefect")
    )
    key = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    database = ROOT / ".pytest_cache" / f"prefect-{key}.db"
    database.parent.mkdir(exist_ok=True)
    with database.with_suffix(".lock").open("w") as lock, TemporaryDirectory() as home:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if database.exists():
            return database
        environment = {"PATH": os.environ["PATH"], "PREFECT_HOME": home}
        subprocess.run([sys.executable, "-c", PREPARE], env=environment, cwd=ROOT, check=True)
        copy = database.with_suffix(".new")
        copy.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(Path(home) / "prefect.db")) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        copy.rename(database)
    return database


def copy_prepared_database(home: Path) -> None:
    """Put a prepared database where a Prefect server with this home looks for it."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(prepared_database(), home / "prefect.db")


@contextmanager
def prefect_server(folder: Path, **settings: str) -> Iterator[None]:
    """Run a server with its own database, which the Prefect client of this process calls until the end of the block.

    It requires `AUTH`. `settings` are Prefect's. A second server in the same folder continues with the database of the first.
    """
    home = folder / "prefect"
    if not (home / "prefect.db").exists():
        copy_prepared_database(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        **PREPARED,
        "PREFECT_SERVER_API_AUTH_STRING": AUTH,
        **settings,
    }
    command = [sys.executable, "-m", "panelworks", "server", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        chosen = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: AUTH, PREFECT_HOME: home}
        with temporary_settings(chosen):
            until(lambda: _answers(url) or server.poll() is not None, 90)
            assert server.poll() is None, (folder / "server.log").read_text()[-3000:]
            yield
            APILogHandler().flush()  # otherwise this process sends them when it ends, for 75 s in vain
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    assert "Exception in ASGI application" not in (folder / "server.log").read_text()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def listens(port: int) -> bool:
    """Whether a process listens on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True


def until(
    condition: Callable[[], bool],
    timeout_seconds: float = TIMEOUT_SECONDS,
    poll_seconds: float | None = None,
) -> None:
    """Wait until a condition holds; fails after `timeout_seconds`.

    The pauses between two checks are `poll_seconds`, or grow.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = FIRST_POLL_SECONDS if poll_seconds is None else poll_seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {timeout_seconds:.0f} s"
        time.sleep(pause)
        if poll_seconds is None:
            pause = min(pause * POLL_GROWTH, MAX_POLL_SECONDS)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
