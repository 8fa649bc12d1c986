"""Reading what was posted: JSON, or a form with files."""

import json
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from panelworks.errors import Rejected
from panelworks.settings import Settings
from service.gateway.shapes import ProcessRequest, UploadFields
from service.gateway.submission import Upload

_FILES = ("file", "image", "files")
"""Names under which a file is taken."""
_OBJECTS = ("options", "metadata")
"""Fields of a form that hold JSON."""


async def read_page(request: Request, settings: Settings) -> ProcessRequest | tuple[Upload, UploadFields]:
    """One page: named in JSON, or uploaded in a form.

    Raises:
        Rejected: `bad_request`, `too_large`.
        pydantic.ValidationError: a field does not fit.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return ProcessRequest.model_validate(await _json(request))
    uploads, fields = await read_form(request, settings)
    if len(uploads) != 1:
        raise Rejected("bad_request", "The form holds one picture, in the field 'file'.")
    return uploads[0], fields


async def read_form(request: Request, settings: Settings) -> tuple[list[Upload], UploadFields]:
    """The pictures of a form, and the fields beside them.

    Raises:
        Rejected: `too_large`.
        pydantic.ValidationError: a field does not fit.
    """
    async with request.form(max_files=200, max_fields=50) as form:
        uploads, fields = [], {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                uploads.append(await _upload(name, value, settings))
            elif value:
                fields[name] = _parsed(value) if name in _OBJECTS else value
    return uploads, UploadFields.model_validate(fields)


async def _upload(name: str, file: UploadFile, settings: Settings) -> Upload:
    if name not in _FILES:
        raise Rejected("bad_request", f"Pictures come in the field 'file', not in '{name[:40]}'.")
    data = await file.read(settings.max_source_bytes + 1)
    if len(data) > settings.max_source_bytes:
        raise Rejected("too_large", f"A picture has at most {settings.max_source_bytes / 2**20:.0f} MiB.")
    return Upload(data, file.filename or "page")


async def _json(request: Request) -> Any:
    return _parsed(await request.body())


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # UnicodeDecodeError is one of them
        raise Rejected("bad_request", "The JSON is not well formed.") from error
