"""Real servers on loopback for tests: HTTP, Redis and Prefect; and requests to Prefect's API."""

import contextlib
import fcntl
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import prefect
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings

ROOT = Path(__file__).parents[1]
AUTH = "panelworks:for-tests"
"""User and password of Prefect servers that require them."""
TIMEOUT_SECONDS = 180.0
POLL_SECONDS = 0.3
"""Between two requests of a waiting test. They cost the server CPU time, too."""
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


def migrated_database() -> Path:
    """An SQLite database with Prefect's tables and no rows.

    A server starts in half the CPU time on a copy of it. All test processes share one file for each version
    of Prefect, in pytest's cache folder.
    """
    database = ROOT / ".pytest_cache" / f"prefect-{prefect.__version__}.db"
    database.parent.mkdir(exist_ok=True)
    with database.with_suffix(".lock").open("w") as lock, TemporaryDirectory() as home:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if database.exists():
            return database
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        environment = {"PATH": os.environ["PATH"], "PREFECT_HOME": home}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        copy = database.with_suffix(".new")
        copy.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(Path(home) / "prefect.db")) as source:
            source.execute("VACUUM INTO ?", (str(copy),))
        copy.rename(database)
    return database


def copy_migrated_database(home: Path) -> None:
    """Put a migrated database where a Prefect server with this home looks for it."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated_database(), home / "prefect.db")


@contextmanager
def prefect_server(folder: Path, **settings: str) -> Iterator[None]:
    """Run a server with its own database, which the Prefect client of this process calls until the end of the block.

    It requires `AUTH`. `settings` are Prefect's.
    """
    home = folder / "prefect"
    copy_migrated_database(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
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
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Wait until a condition holds; fails after `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not hold within {timeout_seconds:.0f} s"
        time.sleep(poll_seconds)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
