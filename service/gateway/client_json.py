"""The first thing that happens to a request of a client: its texts and its JSON are checked, off the event loop."""

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

from fastapi import Request

from panelworks.domain.fields import REQUEST_LIMITS, check_text, parse_json
from panelworks.errors import Rejected

_MAX_PARAMETER_CHARACTERS: Final = 2048
_SMALL_BYTES: Final = 4096
"""Up to this size, parsing takes less than handing it to a thread."""
_MEMORY_BYTES: Final = 1 << 20
"""Bodies up to this size arrive in memory, larger ones on disk."""
_parsing: Final = ThreadPoolExecutor(2, "panelworks-json")
"""Few at a time are in memory to be parsed."""
_LARGE_BODIES_IN_MEMORY: Final = 4
"""Bodies that are parsed, or whose picture is decoded, at the same time; the others wait on disk."""
_DATA_ADDRESS: Final = b'"data:'
_PLACE_OF_PICTURE: Final = "data:picture"
_WIDE_ESCAPE: Final = re.compile(rb"\\u(?!00[0-7])")
"""An escape of a character outside ASCII: with one of them, Python holds each character of a text in 2 or 4 bytes."""
_PARSED: Final = b"{}"
"""What stays of a large body whose JSON has been parsed."""


class LargeBodies:
    """The places in memory for large bodies of one gateway."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_LARGE_BODIES_IN_MEMORY)

    async def take_place(self) -> Callable[[], None]:
        """Wait for a place; gives the function that frees it."""
        await self._places.acquire()
        return self._places.release


class CheckedRequest(Request):
    """A request whose JSON has been parsed and checked."""

    _free_place: Callable[[], None] | None = None

    def set_json(self, body: bytes, value: Any, free_place: Callable[[], None] | None) -> None:
        """The body and what it says; whoever asks gets these."""
        self._body = body
        self._json = value
        self._free_place = free_place

    def drop_json(self) -> None:
        """Drop the JSON, and free the place of a large body."""
        self._json = None
        if self._free_place is not None:
            self._free_place()
            self._free_place = None


def drop_json(request: Request) -> None:
    """Drop the JSON of a request that has been processed: a picture in it needs no memory while its caller waits."""
    if isinstance(request, CheckedRequest):
        request.drop_json()


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
        free_place = None
        if size > _MEMORY_BYTES:
            large_bodies: LargeBodies = request.app.state.gateway.large_bodies
            free_place = await large_bodies.take_place()
        if size > _SMALL_BYTES:
            body, value = await _parsed(spool, free_place)
        else:
            spool.seek(0)
            body = spool.read()
            value = parse_request(body) if body else None
    result = CheckedRequest(request.scope, request.receive)
    result.set_json(body, value, free_place)
    return result


def is_form(request: Request) -> bool:
    """Is the body a form with files? Media types are compared without case (RFC 9110, 8.3.1)."""
    return request.headers.get("content-type", "").strip().lower().startswith("multipart/")


async def _parsed(spool: IO[bytes], free_place: Callable[[], None] | None) -> tuple[bytes, Any]:
    try:
        loop = asyncio.get_running_loop()
        return _PARSED, await loop.run_in_executor(_parsing, _parse_spooled, spool)
    except BaseException:
        if free_place is not None:
            free_place()
        raise


def _parse_spooled(spool: IO[bytes]) -> Any:
    spool.seek(0)
    return parse_request(spool.read())


def parse_request(body: bytes) -> Any:
    """Parse the JSON of a request. Its picture, a data: address in `source`, is not counted as JSON.

    Raises:
        Rejected: `bad_request`, `bad_json`, `bad_data_uri`, `too_large`.
    """
    start = body.find(_DATA_ADDRESS)
    end = _end_of_string(body, start)
    if start < 0 or end < 0 or len(body) <= REQUEST_LIMITS.max_bytes:
        return parse_json(body, REQUEST_LIMITS)
    value = parse_json(b'%b"%b"%b' % (body[:start], _PLACE_OF_PICTURE.encode(), body[end:]), REQUEST_LIMITS)
    if not isinstance(value, dict) or value.get("source") != _PLACE_OF_PICTURE:
        raise Rejected("too_large", "Only 'source' may hold a data: address of this size.")
    address = body[start:end]
    if not address.isascii() or _WIDE_ESCAPE.search(address):
        raise Rejected("bad_data_uri", "A data URI of this size contains only ASCII characters.")
    try:
        value["source"] = check_text(json.loads(address))
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
