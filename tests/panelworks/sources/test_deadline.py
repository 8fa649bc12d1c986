"""Sources that send little and slowly: the deadline ends them, whatever part of the answer they stretch."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from panelworks.errors import Transient
from panelworks.settings import Settings
from panelworks.sources import deadline
from panelworks.sources.fetch import fetch
from panelworks.sources.web import post

_STEP_SECONDS = 0.05
_STEPS = 60
"""The server is done after three seconds: without a deadline its answer arrives."""
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n"


@contextmanager
def dripping(fast: bytes, slow: bytes) -> Iterator[str]:
    """A server that sends `fast` at once and then `slow` in small pieces; `PORT` is replaced by its port."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(fast.replace(b"PORT", str(port).encode()))
                size = max(1, len(slow) // _STEPS)
                for start in range(0, len(slow), size):
                    if over.wait(_STEP_SECONDS):
                        return
                    connection.sendall(slow[start : start + size].replace(b"PORT", str(port).encode()))

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(server.accept()[0],)).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/page.png"
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def hurried(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"allow_http": True, "allow_private_addresses": True, "fetch_deadline_seconds": 0.5}
    )


SLOW_HEADERS = b"X-Padding: " + b"x" * 50 + b"\r\n\r\n" + b"y" * 60


@pytest.mark.parametrize(
    ("fast", "slow"),
    [
        (b"", _HEAD + b"\r\n" + b"y" * 60),
        (_HEAD, SLOW_HEADERS),
        (_HEAD + b"\r\n", b"y" * 60),
        (b"", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: /again\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 60),
    ],
    ids=["status line", "headers", "body", "redirects", "interim answers"],
)
def test_a_slow_source_ends_at_the_deadline(fast: bytes, slow: bytes, hurried: Settings) -> None:
    with dripping(fast, slow) as url, pytest.raises(Transient) as caught:
        fetch(url, hurried)
    assert caught.value.code == "too_slow"


def test_a_slow_callback_ends_at_the_deadline(hurried: Settings) -> None:
    with dripping(_HEAD, SLOW_HEADERS) as url, pytest.raises(Transient) as caught:
        post(url, b"{}", {}, hurried)
    assert caught.value.code == "too_slow"


def test_a_slow_name_service_ends_at_the_deadline(hurried: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait(10) and [])
    with pytest.raises(Transient) as caught:
        deadline.look_up("example.com", 443, deadline.Deadline(0.1))
    over.set()
    assert caught.value.code == "too_slow"


def test_a_source_in_time_is_read(hurried: Settings) -> None:
    with dripping(_HEAD + b"\r\n" + b"y" * 60, b"") as url:
        assert fetch(url, hurried).data == b"y" * 60
