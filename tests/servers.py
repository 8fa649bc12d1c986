"""Real HTTP servers on loopback for tests, and requests to Prefect's API."""

import http.server
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

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
