"""Reading what was posted: JSON, or a form with files."""

import asyncio
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import UploadFile

from panelworks.domain.fields import METADATA_LIMITS, REQUEST_LIMITS, check_text, parse_json
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Rejected
from panelworks.settings import Settings
from service.gateway.client_json import is_form
from service.gateway.shapes import ProcessRequest, UploadFields
from service.gateway.submission import Upload

_FILES = ("file", "image", "files")
"""Names under which a file is taken."""
_OBJECTS: Final = {
    "options": REQUEST_LIMITS,
    "metadata": METADATA_LIMITS,
    "matting": REQUEST_LIMITS,
    "inpaint": REQUEST_LIMITS,
}
"""Fields of a form that hold JSON."""
_OPTIONS: Final = frozenset(EnhanceOptions.model_fields) - frozenset(UploadFields.model_fields)
"""Options that may be fields of the form themselves."""
_MAX_FILES: Final = 200
_MAX_FIELDS: Final = 50
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


async def read_form(request: Request, settings: Settings) -> tuple[list[Upload], UploadFields]:
    """The pictures of a form, and the fields beside them; options are fields of their own, or `options` in JSON.

    Raises:
        Rejected: `bad_request`, `bad_json`, `too_large`.
        pydantic.ValidationError: a field does not fit.
    """
    uploads: list[Upload] = []
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    async with request.form(
        max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=REQUEST_LIMITS.max_bytes
    ) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                uploads.append(await _upload(name, value, settings))
            elif value:
                (options if name in _OPTIONS else fields)[check_text(name)] = await _field(name, value)
    if options:
        given = fields.get("options", {})
        if not isinstance(given, dict):
            raise Rejected("bad_request", "The field 'options' holds a JSON object.")
        fields["options"] = given | options
    return uploads, UploadFields.model_validate(fields)


async def _field(name: str, text: str) -> Any:
    if name in _OBJECTS:
        return await asyncio.to_thread(parse_json, text, _OBJECTS[name])
    return check_text(text)


async def _upload(name: str, file: UploadFile, settings: Settings) -> Upload:
    if name not in _FILES:
        raise Rejected("bad_request", f"Pictures come in the field 'file', not in '{name[:40]}'.")
    data = await file.read(settings.max_source_bytes + 1)
    if len(data) > settings.max_source_bytes:
        raise Rejected("too_large", f"A picture has at most {settings.max_source_bytes / 2**20:.0f} MiB.")
    return Upload(data, check_text(file.filename or "page"))


def form_content(field: str, *, several: bool = False) -> dict[str, Any]:
    """The description of a form for OpenAPI: the picture or pictures in `field`, and all fields beside them."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    picture = {"type": "array", "items": file, "minItems": 1, "maxItems": _MAX_FILES} if several else file
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
    """A JSON schema with its definitions in the places that refer to them: it stands alone in a larger document."""
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
