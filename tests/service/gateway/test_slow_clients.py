"""Clients that send a request byte by byte are cut off; those that only wait for an answer are not."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.service.gateway.conftest import Open

HEADERS = b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: " + b"x" * 40 + b"\r\n\r\n"
POST = b"POST /api/pages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: 400\r\n\r\n"
FORM = POST % b"multipart/form-data; boundary=x"
JSON = (POST % b"application/json").replace(b"/api/pages", b"/api/enhancement/process")
UNREAD = b"POST /api/nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 400\r\n\r\n"
BODY = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"-" * 336
BYTES_AT_ONCE = 1
PAUSE_SECONDS = 0.1


@pytest.fixture
def connection(gateway: Open) -> Iterator[socket.socket]:
    address = urlsplit(str(gateway(slow_request_seconds=1).base_url))
    with socket.create_connection((address.hostname, address.port), timeout=30) as opened:
        yield opened


def trickle(connection: socket.socket, data: bytes) -> tuple[bytes, int]:
    """Send byte by byte until the other side closes; what it answered, and how many bytes it took."""
    sent = 0
    try:
        for sent in range(len(data)):
            connection.sendall(data[sent : sent + BYTES_AT_ONCE])
            time.sleep(PAUSE_SECONDS)
    except OSError:
        pass
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except OSError:
        pass
    return answer, sent


def test_slow_headers(connection: socket.socket) -> None:
    answer, sent = trickle(connection, HEADERS)
    assert answer == b""
    assert sent < len(HEADERS) - 1


def test_slow_headers_of_a_second_request(connection: socket.socket) -> None:
    connection.sendall(HEADERS)
    assert connection.recv(65536).startswith(b"HTTP/1.1 ")
    answer, sent = trickle(connection, HEADERS)
    assert b"HTTP" not in answer
    assert sent < len(HEADERS) - 1


@pytest.mark.parametrize("request_head", [FORM, JSON], ids=["form", "json"])
def test_slow_bodies(connection: socket.socket, request_head: bytes) -> None:
    connection.sendall(request_head)
    answer, sent = trickle(connection, BODY)
    assert b"408" in answer.split(b"\r\n")[0]
    assert b"body_too_slow" in answer
    assert sent < 399


def test_a_slow_body_that_nobody_reads(connection: socket.socket) -> None:
    connection.sendall(UNREAD)
    answer, sent = trickle(connection, b"-" * 400)
    assert b"404" in answer.split(b"\r\n")[0]
    assert sent < 399


def test_an_idle_client_is_disconnected(connection: socket.socket) -> None:
    assert connection.recv(1) == b""


def test_a_request_in_two_parts_is_answered(connection: socket.socket) -> None:
    connection.sendall(HEADERS[:20])
    time.sleep(PAUSE_SECONDS)
    connection.sendall(HEADERS[20:])
    assert connection.recv(65536).startswith(b"HTTP/1.1 ")


def test_a_websocket_begins_with_get(connection: socket.socket) -> None:
    """Before, such a connection was never answered and never closed, and 800 of them needed no key."""
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"
    )
    connection.sendall(b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade + b"Content-Length: 0\r\n\r\n")
    answer = b""
    while part := connection.recv(65536):
        answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
