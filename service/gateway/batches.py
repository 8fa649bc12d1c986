"""Routes of batches: accepted, listed, followed and cancelled."""

import asyncio
import re
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.datastructures import FormData, UploadFile

from panelworks.domain.fields import REQUEST_LIMITS, check_text
from panelworks.domain.manifest import MANIFEST_SUFFIXES, MAX_JOB_ID_CHARACTERS, MAX_MANIFEST_BYTES
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JOB_ID_PATTERN, JobKey, Origin
from panelworks.errors import Rejected
from panelworks.page.batches import Batch, BatchRowStatus, BatchSummary, rows_of
from panelworks.page.callbacks import check_callback
from panelworks.telemetry import current_traceparent
from service.gateway.access import By, Caller, GuardedRoute
from service.gateway.answers import Owner
from service.gateway.batch_intake import FormFile, Place, take_batch
from service.gateway.bodies import FILE_FIELDS, MAX_FIELDS, MAX_FILES, form_body, read_fields
from service.gateway.schemas import Schema, UploadFields
from service.gateway.state import GatewayState, State

router = APIRouter(prefix="/api/batches", tags=["batches"], route_class=GuardedRoute)
MANIFEST: Final = "manifest"
BATCH_ID: Final = "batch_id"
_OWN_FIELDS: Final = frozenset({MANIFEST, BATCH_ID})
_BATCH_ID: Final = re.compile(JOB_ID_PATTERN, re.ASCII)
_DEFAULT_QUEUE: Final = "backfill"
"""A batch must not delay pages for which somebody waits."""
_MAX_OFFSET: Final = 1_000_000
RowChoice = Literal["problems", "all"]


class BatchAccepted(Schema):
    """A batch: its progress and, once it has ended, its summary."""

    batch: BatchSummary
    status_url: str
    cancel_url: str
    rows: tuple[BatchRowStatus, ...] = Field((), description="The rows that were asked for.")


class BatchList(Schema):
    """Batches, the newest first."""

    batches: tuple[BatchSummary, ...]
    limit: int
    offset: int


@router.get("")
async def list_batches(
    state: State,
    caller: By,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    offset: Annotated[int, Query(ge=0, le=_MAX_OFFSET)] = 0,
) -> BatchList:
    """Batches, the newest first: those of the key, all of them for an admin key."""
    found = await asyncio.to_thread(
        state.engine.batches.list_newest, caller.owner, limit, offset, of_all=caller.admin
    )
    summaries = [(await state.batches.summary(batch)).model_copy(update={"problems": ()}) for batch in found]
    return BatchList(batches=tuple(summaries), limit=limit, offset=offset)


@router.get("/{batch_id}")
async def read_batch(
    batch_id: str,
    state: State,
    caller: By,
    owner: Owner = None,
    rows: Annotated[
        RowChoice, Query(description="The rows that were refused or failed, or all.")
    ] = "problems",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=_MAX_OFFSET)] = 0,
) -> BatchAccepted:
    """The progress and the summary of a batch, with its rows that were refused or failed, or all of them."""
    batch = await find_batch(batch_id, caller, owner, state)
    progress = await state.batches.state(batch)

    def chosen() -> tuple[BatchRowStatus, ...]:
        found = [
            row for row in rows_of(batch, progress) if rows == "all" or row.status in ("refused", "failed")
        ]
        return tuple(found[offset : offset + limit])

    return await describe(batch, state, await asyncio.to_thread(chosen))


@router.post("/{batch_id}/cancel", status_code=202)
async def cancel_batch(batch_id: str, state: State, caller: By, owner: Owner = None) -> BatchAccepted:
    """Cancel a batch: rows that wait are not started, jobs that wait or run are cancelled. What is done stays delivered."""
    batch = await find_batch(batch_id, caller, owner, state)
    await state.batches.cancel(batch)
    return await describe(batch, state)


async def describe(
    batch: Batch, state: GatewayState, rows: tuple[BatchRowStatus, ...] | None = None
) -> BatchAccepted:
    """A batch as it is answered; by default with its first problems."""
    summary = await state.batches.summary(batch)
    url = f"/api/batches/{quote(batch.batch_id, safe='')}"
    return BatchAccepted(
        batch=summary.model_copy(update={"problems": ()}),
        status_url=url,
        cancel_url=f"{url}/cancel",
        rows=summary.problems if rows is None else rows,
    )


async def find_batch(batch_id: str, caller: Caller, owner: str | None, state: GatewayState) -> Batch:
    """The batch that a caller names. A key names its own batches; an admin key those of all keys, its own first.

    Raises:
        Rejected: `unknown_batch`, also for a batch of another key.
    """
    if caller.admin:
        names = (owner or None,) if owner is not None else (caller.owner, *state.access.keys.names, None)
    else:
        names = (caller.owner,) if owner in (None, caller.owner) else ()
    for name in dict.fromkeys(names):
        batch = await asyncio.to_thread(state.engine.batches.find, JobKey(name, batch_id))
        if batch is not None:
            return batch
    raise Rejected("unknown_batch", "There is no such batch.")


def batch_form() -> dict[str, Any]:
    """The description of the form for OpenAPI: files, a manifest, or both."""
    described = form_body("files", several=True)
    schema = described["requestBody"]["content"]["multipart/form-data"]["schema"]
    text = "CSV or JSON Lines with source, options and job_id; sources are addresses or names of files."
    schema["properties"] |= {
        MANIFEST: {"type": "string", "description": text},
        BATCH_ID: {
            "type": "string", "pattern": JOB_ID_PATTERN, "maxLength": MAX_JOB_ID_CHARACTERS,
            "description": "Your id of the batch: posted again, it is the same batch.",
        },
    }  # fmt: skip
    schema["required"] = []
    schema["anyOf"] = [{"required": ["files"]}, {"required": [MANIFEST]}]
    return described


def is_batch(form: FormData) -> bool:
    """Is a form a batch? It has a manifest, an id or a ZIP archive; others are answered in the format of VisionCloud."""
    if any(form.get(name) for name in _OWN_FIELDS):
        return True
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    return any(_is_manifest(file) or FormFile("", file.file).is_zip for file in files)


def _is_manifest(file: UploadFile) -> bool:
    """Is a file a manifest, by its name?"""
    return (file.filename or "").lower().endswith(MANIFEST_SUFFIXES)


async def read_batch_form(request: Request) -> FormData:
    """The form of a request. The caller closes it."""
    return await request.form(
        max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=REQUEST_LIMITS.max_bytes
    )


async def accept_batch(
    form: FormData,
    state: GatewayState,
    caller: Caller,
    *,
    tool: str | None = None,
    ignored: frozenset[str] = frozenset(),
) -> Batch:
    """Accept the batch of a form, and start it; a batch with the id of an earlier one with the same rows is that one.

    Raises:
        Rejected: the batch cannot be used; `batch_exists`, its id belongs to another batch.
    """
    items = [(name, value) for name, value in form.multi_items() if name not in (_OWN_FIELDS | ignored)]
    files = [
        (name, value)
        for name, value in items
        if isinstance(value, UploadFile) and (value.filename or value.size)
    ]  # browsers send an empty file if none was chosen
    fields = await read_fields([(name, value) for name, value in items if isinstance(value, str)])
    for name, _ in files:
        if name not in FILE_FIELDS:
            raise Rejected("bad_request", f"Files come in the field 'files', not in '{name[:40]}'.")
    check_callback(fields.callback, state.settings)
    given_id = form.get(BATCH_ID)
    batch_id = _check_id(given_id) if given_id else str(uuid.uuid4())
    given_manifests = [*form.getlist(MANIFEST), *(file for _, file in files if _is_manifest(file))]
    if len(given_manifests) > 1:
        raise Rejected("bad_request", "A batch has one manifest.")
    manifest = await _read_manifest(given_manifests[0] if given_manifests else None)
    named = [
        FormFile(check_text(value.filename or f"page-{number}"), value.file)
        for number, (_, value) in enumerate(files, start=1)
        if not _is_manifest(value)
    ]
    batch = await asyncio.to_thread(
        _make_batch,
        named,
        manifest,
        batch_id,
        fields if tool is None else fields.model_copy(update={"tool": tool}),
        state,
        caller,
    )
    stored = await asyncio.to_thread(state.engine.batches.store, batch)
    if stored.content != batch.content:
        raise Rejected("batch_exists", "Another batch has this id.")
    if stored is batch:
        state.batches.start(batch)
    return stored


def _make_batch(
    files: list[FormFile],
    manifest: bytes | None,
    batch_id: str,
    fields: UploadFields,
    state: GatewayState,
    caller: Caller,
) -> Batch:
    options, out = fields.options, fields.out or state.settings.default_out
    if fields.preset:
        options = EnhanceOptions.model_validate({**options.model_dump(), "preset": fields.preset})
    origin = Origin.of_client(
        fields, owner=caller.owner, entry_point="http", traceparent=current_traceparent()
    ).model_copy(update={"callback": None})
    place = Place(batch_id, out, origin, options, reads_all_uploads=caller.admin)
    intake = take_batch(files, manifest, place, state.engine)
    return Batch(
        batch_id=batch_id,
        created_at=datetime.now(UTC),
        out=out,
        queue=fields.priority if "priority" in fields.model_fields_set else _DEFAULT_QUEUE,
        force=fields.force,
        callback=fields.callback,
        origin=origin,
        options=intake.options,
        rows=intake.rows,
        notes=intake.notes,
    )


def _check_id(value: UploadFile | str) -> str:
    if not isinstance(value, str) or len(value) > MAX_JOB_ID_CHARACTERS or not _BATCH_ID.fullmatch(value):
        raise Rejected(
            "bad_request",
            f"A batch_id has up to {MAX_JOB_ID_CHARACTERS} letters, digits and characters of . _ : -",
        )
    return value


async def _read_manifest(value: UploadFile | str | None) -> bytes | None:
    if value is None or isinstance(value, str):
        return value.encode("utf-8", "surrogatepass") if value else None
    return await value.read(MAX_MANIFEST_BYTES + 1)
