"""HTTP requests to the public internet: limited downloads, each redirect checked, and callbacks."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, Final
from urllib.parse import urljoin

import httpx

from panelworks.errors import Rejected, Transient, UnsafeSource
from panelworks.settings import Settings
from panelworks.sources.addresses import refuse_private_ip, resolve
from panelworks.sources.deadline import Deadline, client_until

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_USER_AGENT: Final = "panelworks"
_PIECE_BYTES: Final = 1 << 20
POST_SECONDS: Final = 10.0
"""Time limit of a callback, from the name lookup to the status of the response."""


def download(url: str, settings: Settings) -> bytes:
    """The body of `url`, at most `settings.max_source_bytes`.

    Raises:
        Rejected: `too_large`, `not_found`, `too_many_redirects`, `bad_address`, `unknown_host`.
        UnsafeSource: `forbidden_address`, `plain_http`.
        Transient: `unreachable`, `server_error`; `too_slow`, name lookup, redirects, headers and body
            took longer than `settings.fetch_deadline_seconds` together.
    """
    body = BytesIO()
    download_to(body, url, settings, settings.max_source_bytes)
    return body.getvalue()


def download_to(file: BinaryIO, url: str, settings: Settings, max_bytes: int) -> None:
    """Write the body of `url` to a file, at most `max_bytes`.

    Raises:
        PanelworksError: as `download`.
    """
    deadline = Deadline(settings.fetch_deadline_seconds)
    with client_until(deadline, settings.fetch_timeout_seconds) as client:
        for _ in range(settings.max_redirects + 1):
            with _open(
                client, _request_to_checked_address(client, "GET", url, settings, deadline)
            ) as response:
                target = response.headers.get("location")
                if response.status_code in _REDIRECTS and target:
                    url = _joined(url, target)
                    continue
                _read(response, file, max_bytes)
                return
    raise Rejected("too_many_redirects", f"More than {settings.max_redirects} redirects.")


def post(url: str, body: bytes, headers: dict[str, str], settings: Settings) -> None:
    """Send a body to `url`; redirects are not followed and the answer is not read.

    Raises:
        Rejected: `callback_refused`, the receiver answered 3xx or 4xx; `bad_address`, `unknown_host`.
        UnsafeSource: `forbidden_address`, `plain_http`.
        Transient: `unreachable`, `too_slow`; `server_error`, the receiver answered 5xx, 408 or 429.
    """
    deadline = Deadline(min(POST_SECONDS, settings.fetch_deadline_seconds))
    with client_until(deadline, min(POST_SECONDS, settings.fetch_timeout_seconds)) as client:
        request = _request_to_checked_address(client, "POST", url, settings, deadline, body, headers)
        with _open(client, request) as response:
            status = response.status_code
    if status >= 500 or status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS):
        raise Transient("server_error", f"The receiver answered {status}.")
    if status >= 300:
        raise Rejected("callback_refused", f"The receiver answered {status}.")


@contextmanager
def _open(client: httpx.Client, request: httpx.Request) -> Iterator[httpx.Response]:
    """A streamed response from the checked address. Transport errors become `Transient`."""
    try:
        response = client.send(request, stream=True)
    except httpx.HTTPError as error:
        raise Transient("unreachable", f"The server did not answer ({type(error).__name__}).") from error
    except (httpx.InvalidURL, ValueError) as error:  # httpx parses redirects even if it does not follow them
        raise _bad_redirect() from error
    try:
        yield response
    finally:
        response.close()


def _joined(url: str, target: str) -> str:
    try:
        return urljoin(url, target)
    except ValueError as error:
        raise _bad_redirect() from error


def _bad_redirect() -> Rejected:
    return Rejected("bad_address", "The server redirects to an address that is not well formed.")


def _request_to_checked_address(
    client: httpx.Client,
    method: str,
    url: str,
    settings: Settings,
    deadline: Deadline,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Request:
    """A request to the checked IP address; the Host header and the TLS verification use the host's name."""
    address, host = _parsed(url, settings)
    port = address.port or (443 if address.scheme == "https" else 80)
    number = resolve(host, port, deadline, allow_private=settings.allow_private_addresses)
    return client.build_request(
        method,
        address.copy_with(host=number),
        content=body,
        headers={
            **(headers or {}),
            "Host": address.netloc.decode("ascii"),
            "User-Agent": _USER_AGENT,
            "Accept-Encoding": "identity",
        },
        extensions={"sni_hostname": host},
    )


def check_address(url: str, settings: Settings) -> None:
    """Refuse an address that is never connected to, without looking up its name.

    Raises:
        Rejected: `bad_address`.
        UnsafeSource: `plain_http`; `forbidden_address`, it is the IP address of a private host.
    """
    _, host = _parsed(url, settings)
    if not settings.allow_private_addresses:
        refuse_private_ip(host)


def _parsed(url: str, settings: Settings) -> tuple[httpx.URL, str]:
    """The parsed address and its host name."""
    try:
        address = httpx.URL(url)
        host = address.host  # decoding the name may fail as well
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Rejected("bad_address", "The address is not well formed.") from error
    if address.scheme not in ("https", "http") or not host:
        raise Rejected("bad_address", "The address does not name a web server.")
    if address.scheme == "http" and not settings.allow_http:
        raise UnsafeSource("plain_http", "Only https addresses are allowed.")
    return address, host


def _read(response: httpx.Response, file: BinaryIO, max_bytes: int) -> None:
    """Write the body of a response to a file."""
    status = response.status_code
    if status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
        raise Transient("server_error", f"The server answered {status}.")
    if status != httpx.codes.OK:
        raise Rejected("not_found", f"The server answered {status}.")
    count, content = 0, _Content(response.headers.get("content-encoding", ""))
    try:
        for chunk in response.iter_raw():
            for piece in content.decode(chunk):
                count += len(piece)
                if count > max_bytes:
                    raise Rejected(
                        "too_large",
                        f"The file has more than {max_bytes / 2**20:.0f} MiB, which is the limit.",
                    )
                file.write(piece)
    except httpx.HTTPError as error:
        raise Transient("unreachable", f"The transfer broke off ({type(error).__name__}).") from error
    except zlib.error as error:
        raise Rejected("damaged", "The server compressed its answer, and the data is damaged.") from error


class _Content:
    """Decodes the content of a response. Compression was not requested: only one layer of gzip is decoded, in limited pieces."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip"):
            raise Rejected(
                "unsupported_format", "The server sent a compressed response in an unsupported encoding."
            )
        self._inflater = zlib.decompressobj(16 + zlib.MAX_WBITS) if "gzip" in name else None

    def decode(self, chunk: bytes) -> Iterator[bytes]:
        """The content of a piece of the body, at most `_PIECE_BYTES` at a time."""
        if self._inflater is None:
            yield chunk
            return
        while chunk:
            yield self._inflater.decompress(chunk, _PIECE_BYTES)
            chunk = self._inflater.unconsumed_tail
