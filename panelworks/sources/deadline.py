"""HTTP under one deadline: name lookup, connection, TLS, headers, redirects and body together.

The timeouts of httpx apply to each read from the socket. A server that sends one byte at a time never exceeds them.
Here each wait is limited by the remaining time of the whole request.
"""

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpcore
import httpx

from panelworks.errors import Transient

_SLACK_SECONDS: Final = 0.01
"""A wait may end this much earlier than requested."""
_LOOKUP_SECONDS: Final = 20.0
"""Longest wait for the name service if no deadline is shorter."""


class Deadline:
    """The moment at which all waits of a request end."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, at_most: float | None = None) -> float:
        """Remaining seconds, at most `at_most`.

        Raises:
            Transient: `too_slow`, the deadline has passed.
        """
        left = self._end - time.monotonic()
        if left <= _SLACK_SECONDS:
            raise Transient("too_slow", f"The server sent no complete answer in {self._seconds:.0f} seconds.")
        return left if at_most is None else min(left, at_most)


def look_up(host: str, port: int, deadline: Deadline | None = None) -> list[str]:
    """All IP addresses of a host.

    The system's lookup cannot be interrupted. It runs in a thread; when it takes too long, the thread continues until
    the resolver's own limits end it.

    Raises:
        OSError, UnicodeError: the host does not exist. Transient: `too_slow`.
    """
    found: list[Any] = []

    def query() -> None:
        try:
            found.append(
                [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
            )
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=query, name="name lookup", daemon=True)
    thread.start()
    thread.join(deadline.left(_LOOKUP_SECONDS) if deadline else _LOOKUP_SECONDS)
    if not found:
        raise Transient("too_slow", f"The name service did not answer for {host}.")
    if isinstance(found[0], BaseException):
        raise found[0]
    addresses: list[str] = found[0]
    return addresses


def client_until(deadline: Deadline, timeout_seconds: float) -> httpx.Client:
    """A client whose requests all end at the deadline. No wait is longer than the timeout.

    Proxies named in variables are not used: they would resolve the name again, without our checks.
    """
    return httpx.Client(timeout=timeout_seconds, transport=_Transport(deadline), trust_env=False)


class _Transport(httpx.BaseTransport):
    """httpx over httpcore with our own network backend, through the public interfaces of both."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False), network_backend=_Network(deadline)
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        core_request = httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx(self._deadline):
            response = self._pool.handle_request(core_request)
        if not isinstance(response.stream, Iterable):
            raise TypeError("the response of a synchronous pool is synchronous")
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response.stream, self._deadline),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes], deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx(self._deadline):
            yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            with suppress(Transient):  # the deadline has passed
                close()


@contextmanager
def _as_httpx(deadline: Deadline) -> Iterator[None]:
    """Convert errors of httpcore to the errors of httpx with the same names, and expired deadlines to `Transient`."""
    try:
        yield
    except httpcore.TimeoutException as error:
        deadline.left()
        raise _httpx_error(error) from error
    except (httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise _httpx_error(error) from error


def _httpx_error(error: Exception) -> httpx.TransportError:
    kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__, httpx.TransportError)
    return kind(str(error))


class _Network(httpcore.NetworkBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._deadline, self._plain = deadline, httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout)
        stream = self._plain.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _Stream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
