"""The first thing that happens to a request of a client: its texts and its JSON are checked, off the event loop."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

from fastapi import Request

from panelworks.client_data import REQUEST_LIMITS, check_text, parse_json
from panelworks.errors import Rejected

_MAX_PARAMETER_CHARACTERS: Final = 2048
_SMALL_BYTES: Final = 4096
"""Up to this size, parsing takes less than handing it to a thread."""
_MEMORY_BYTES: Final = 1 << 20
"""Bodies up to this size arrive in memory, larger ones on disk."""
_large_bodies: Final = ThreadPoolExecutor(2, "panelworks-json")
"""Few at a time are in memory to be parsed."""
_DATA_ADDRESS: Final = b'"data:'
_PLACE_OF_PICTURE: Final = "data:picture"


class CheckedRequest(Request):
    """A request whose JSON has been parsed and checked."""

    def set_json(self, body: bytes, value: Any) -> None:
        """The body and what it says; whoever asks gets these."""
        self._body = body
        self._json = value


async def checked(request: Request) -> Request:
    """The request with checked parameters and, unless it is a form with files, checked JSON.

    Raises:
        Rejected: `bad_request`, `bad_json`, `too_large`.
    """
    _check_parameters(request)
    if is_form(request):
        return request
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
        size = await _read_body(request, spool, request.app.state.gateway.settings.max_source_bytes)
        if size > _SMALL_BYTES:
            loop = asyncio.get_running_loop()
            body, value = await loop.run_in_executor(_large_bodies, _parse_spooled, spool)
        else:
            spool.seek(0)
            body = spool.read()
            value = parse_request(body) if body else None
    result = CheckedRequest(request.scope, request.receive)
    result.set_json(body, value)
    return result


def is_form(request: Request) -> bool:
    """Is the body a form with files? Media types are compared without case (RFC 9110, 8.3.1)."""
    return request.headers.get("content-type", "").strip().lower().startswith("multipart/")


def _parse_spooled(spool: IO[bytes]) -> tuple[bytes, Any]:
    spool.seek(0)
    body = spool.read()
    return body, parse_request(body)


def parse_request(body: bytes) -> Any:
    """Parse the JSON of a request. Its picture, a data: address in `source`, is not counted as JSON.

    Raises:
        Rejected: `bad_request`, `bad_json`, `too_large`.
    """
    start = body.find(_DATA_ADDRESS)
    end = _end_of_string(body, start)
    if start < 0 or end < 0 or len(body) <= REQUEST_LIMITS.max_bytes:
        return parse_json(body, REQUEST_LIMITS)
    value = parse_json(b'%b"%b"%b' % (body[:start], _PLACE_OF_PICTURE.encode(), body[end:]), REQUEST_LIMITS)
    if not isinstance(value, dict) or value.get("source") != _PLACE_OF_PICTURE:
        raise Rejected("too_large", "Only 'source' may hold a data: address of this size.")
    try:
        value["source"] = check_text(json.loads(body[start:end]))
    except ValueError as error:
        raise Rejected("bad_request", "The data: address is not well-formed.") from error
    return value


def _end_of_string(body: bytes, start: int) -> int:
    """The offset after the quotation mark that ends a string; -1 when there is none."""
    if start < 0:
        return -1
    end = body.find(b'"', start + 1)
    if end > 0 and body[end - 1 : end] == b"\\":  # no data: address contains a quotation mark
        return -1
    return end + 1 if end > 0 else -1


async def _read_body(request: Request, spool: IO[bytes], max_source_bytes: int) -> int:
    """Write the body to `spool`; gives its size.

    One that is larger than JSON may be is read further only when it holds a data: address, and up to the size that a
    picture in it may have. Bodies wait on disk, so that many large ones at once take no memory while they arrive.
    """
    largest = REQUEST_LIMITS.max_bytes + max_source_bytes * 4 // 3
    head, size = b"", 0
    async for chunk in request.stream():
        before, size = size, size + len(chunk)
        if before <= REQUEST_LIMITS.max_bytes:
            head += chunk
            if size > REQUEST_LIMITS.max_bytes and _DATA_ADDRESS not in head:
                raise Rejected(
                    "too_large",
                    f"The JSON has more than {REQUEST_LIMITS.max_bytes // 1024} KiB; upload pictures as files.",
                )
        if size > largest:
            raise Rejected(
                "too_large",
                f"A picture in JSON has at most {max_source_bytes / 2**20:.0f} MiB; upload larger ones as files.",
            )
        if size > _MEMORY_BYTES:
            await asyncio.to_thread(spool.write, chunk)
        else:
            spool.write(chunk)
    return size


def _check_parameters(request: Request) -> None:
    values = [*request.path_params.values(), *request.query_params.values(), *request.query_params.keys()]
    for value in values:
        if isinstance(value, str):
            check_text(value)
            if len(value) > _MAX_PARAMETER_CHARACTERS:
                raise Rejected("bad_request", "A parameter in the address is too long.")
