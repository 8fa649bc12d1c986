"""A real HTTP server on loopback for tests."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class QuietHandler(http.server.BaseHTTPRequestHandler):
    """Base of the handlers: does not log to the terminal."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@contextmanager
def serving(handler: type[QuietHandler]) -> Iterator[str]:
    """Serve until the end of the block; gives the address, such as `http://127.0.0.1:40123`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
