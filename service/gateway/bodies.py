"""Reading the body of a request: JSON, or a form with files. It is parsed and checked off the event loop."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

from fastapi import Request
from starlette.datastructures import UploadFile

from panelworks.domain.fields import METADATA_LIMITS, REQUEST_LIMITS, check_text, parse_json
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Rejected
from panelworks.settings import Settings
from service.gateway.schemas import ProcessRequest, UploadFields

_MAX_PARAMETER_CHARACTERS: Final = 2048
_SMALL_BYTES: Final = 4096
"""Up to this size, parsing takes less time than passing it to a thread."""
_MEMORY_BYTES: Final = 1 << 20
"""Bodies up to this size are received in memory, larger ones on disk."""
_parsing: Final = ThreadPoolExecutor(2, "panelworks-json")
"""Two bodies are parsed at the same time, to limit memory."""
_LARGE_BODIES_IN_MEMORY: Final = 4
"""Large bodies that are parsed, or whose picture is decoded, at the same time. The others wait on disk."""
_DATA_ADDRESS: Final = b'"data:'
_PLACE_OF_PICTURE: Final = "data:picture"
_WIDE_ESCAPE: Final = re.compile(rb"\\u(?!00[0-7])")
"""An escape of a character outside ASCII: with one of them, Python holds each character of a text in 2 or 4 bytes."""
_PARSED_BODY: Final = b"{}"
"""Replaces a large body whose JSON has been parsed."""


@dataclass(frozen=True)
class Upload:
    """A file that came with a request."""

    data: bytes
    filename: str


class LargeBodies:
    """Limits the large bodies that one gateway holds in memory."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_LARGE_BODIES_IN_MEMORY)

    async def take_place(self) -> Callable[[], None]:
        """Wait for a place; returns the function that frees it."""
        await self._places.acquire()
        return self._places.release


class CheckedRequest(Request):
    """A request whose JSON has been parsed and checked."""

    _free_place: Callable[[], None] | None = None

    def set_json(self, body: bytes, value: Any, free_place: Callable[[], None] | None) -> None:
        """Set the body and its parsed JSON."""
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
    """Drop the JSON of a request that has been processed: a picture in it takes no memory while its caller waits."""
    if isinstance(request, CheckedRequest):
        request.drop_json()


async def check_request(request: Request) -> Request:
    """Check the parameters of a request and, unless it is a form with files, its JSON; returns the checked request.

    Raises:
        Rejected: `bad_request`, `bad_json`, `too_large`.
    """
    check_parameters(request)
    if is_form(request):
        return request
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as spool:
        size = await _read_body(request, spool, request.app.state.gateway.settings.max_source_bytes)
        free_place = None
        if size > _MEMORY_BYTES:
            large_bodies: LargeBodies = request.app.state.gateway.large_bodies
            free_place = await large_bodies.take_place()
        if size > _SMALL_BYTES:
            body, value = await _parse_in_thread(spool, free_place)
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


async def _parse_in_thread(spool: IO[bytes], free_place: Callable[[], None] | None) -> tuple[bytes, Any]:
    try:
        loop = asyncio.get_running_loop()
        return _PARSED_BODY, await loop.run_in_executor(_parsing, _parse_spooled, spool)
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
    """Write the body to `spool`; returns its size in bytes.

    A body beyond the limit of JSON is read on only when it holds a data: address, up to the limit of a picture.
    Large bodies are written to disk, so that many of them take no memory while they arrive.
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


def check_parameters(request: Request) -> None:
    """Check the parameters of the address.

    Raises:
        Rejected: `bad_request`, one is too long or no text.
    """
    values = [*request.path_params.values(), *request.query_params.values(), *request.query_params.keys()]
    for value in values:
        if isinstance(value, str):
            check_text(value)
            if len(value) > _MAX_PARAMETER_CHARACTERS:
                raise Rejected("bad_request", "A parameter in the address is too long.")


FILE_FIELDS: Final = ("file", "image", "files")
"""Names of form fields that may hold a file."""
_OBJECTS: Final = {
    "options": REQUEST_LIMITS,
    "metadata": METADATA_LIMITS,
    "matting": REQUEST_LIMITS,
    "inpaint": REQUEST_LIMITS,
    "rules": REQUEST_LIMITS,
    "tone_points": REQUEST_LIMITS,
}
"""Fields of a form that hold JSON."""
_OPTIONS: Final = frozenset(EnhanceOptions.model_fields) - frozenset(UploadFields.model_fields)
"""Options that may be fields of the form themselves."""
MAX_FILES: Final = 200
MAX_FIELDS: Final = 50
_CHUNK_BYTES: Final = 256 * 1024


async def read_page(request: Request, settings: Settings) -> ProcessRequest | tuple[Upload, UploadFields]:
    """One page: named in JSON, or uploaded in a form.

    Raises:
        Rejected: `bad_request`, `bad_json`, `too_large`.
        pydantic.ValidationError: a field does not fit.
    """
    if not is_form(request):
        return ProcessRequest.model_validate(await request.json())
    uploads, fields = await read_form(request, settings)
    if len(uploads) != 1:
        raise Rejected("bad_request", "The form holds one picture, in the field 'file'.")
    return uploads[0], fields


async def read_form(
    request: Request, settings: Settings, *, ignored: frozenset[str] = frozenset()
) -> tuple[list[Upload], UploadFields]:
    """The pictures of a form, and the fields beside them; options are fields of their own, or `options` in JSON.

    Fields named in `ignored` belong to the page that sent the form.

    Raises:
        Rejected: `bad_request`, `bad_json`, `too_large`.
        pydantic.ValidationError: a field does not fit.
    """
    uploads: list[Upload] = []
    texts: list[tuple[str, str]] = []
    async with request.form(
        max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=REQUEST_LIMITS.max_bytes
    ) as form:
        for name, value in form.multi_items():
            if name in ignored:
                continue
            if isinstance(value, UploadFile):
                uploads.append(await _upload(name, value, settings))
            else:
                texts.append((name, value))
        return uploads, await read_fields(texts)


async def read_fields(texts: Iterable[tuple[str, str]]) -> UploadFields:
    """The fields of a form that are no files; empty ones are ignored.

    Raises:
        Rejected: `bad_request`, `bad_json`, `too_large`.
        pydantic.ValidationError: a field does not fit.
    """
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in texts:
        if value:
            (options if name in _OPTIONS else fields)[check_text(name)] = await _field(name, value)
    if options:
        given = fields.get("options", {})
        if not isinstance(given, dict):
            raise Rejected("bad_request", "The field 'options' holds a JSON object.")
        fields["options"] = given | options
    return UploadFields.model_validate(fields)


async def _field(name: str, text: str) -> Any:
    if name in _OBJECTS:
        return await asyncio.to_thread(parse_json, text, _OBJECTS[name])
    return check_text(text)


async def _upload(name: str, file: UploadFile, settings: Settings) -> Upload:
    if name not in FILE_FIELDS:
        raise Rejected("bad_request", f"Pictures come in the field 'file', not in '{name[:40]}'.")
    data = await file.read(settings.max_source_bytes + 1)
    if len(data) > settings.max_source_bytes:
        raise Rejected("too_large", f"A picture has at most {settings.max_source_bytes / 2**20:.0f} MiB.")
    return Upload(data, check_text(file.filename or "page"))


def form_content(field: str, *, several: bool = False) -> dict[str, Any]:
    """The description of a form for OpenAPI: the picture or pictures in `field`, and all fields beside them."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    picture = {"type": "array", "items": file, "minItems": 1, "maxItems": MAX_FILES} if several else file
    options = resolved_schema(EnhanceOptions.model_json_schema())["properties"]
    flat = {name: schema for name, schema in options.items() if name in _OPTIONS}
    fields = resolved_schema(UploadFields.model_json_schema())["properties"]
    return {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [field],
                "properties": {field: picture, **flat, **fields},
                "additionalProperties": False,
            },
            "encoding": {name: {"contentType": "application/json"} for name in _OBJECTS},
        }
    }


def form_body(field: str, *, several: bool = False) -> dict[str, Any]:
    """The `openapi_extra` of a route that takes a form."""
    return {"requestBody": {"required": True, "content": form_content(field, several=several)}}


def resolved_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema whose references are replaced by their definitions, for use inside a larger document."""
    definitions = schema.get("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(one) for one in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            target = definitions[part["$ref"].rpartition("/")[2]]
            return resolved({**target, **{name: one for name, one in part.items() if name != "$ref"}})
        return {name: resolved(one) for name, one in part.items() if name != "$defs"}

    result: dict[str, Any] = resolved(schema)
    return result
