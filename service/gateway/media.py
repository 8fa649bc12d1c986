"""Routes of pictures for readers, browsers and CDNs: the variants of a job, and published objects under their names."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from panelworks.domain.formats import EXTENSIONS, MEDIA_TYPES
from panelworks.domain.request import JobKey
from panelworks.domain.result import ArtifactRef, JobRecord
from panelworks.errors import Rejected, Transient
from panelworks.storage.folder import FileInfo, ObjectFolder, name_of, open_folder
from panelworks.storage.headers import IMMUTABLE, cache_control_of, content_disposition, is_picture_name
from panelworks.storage.links import MEDIA_PATH, check_link
from panelworks.version import __version__
from service.gateway.access import Access, By, GuardedRoute, Refused, caller_of
from service.gateway.answers import Owner, key_for, record_of, unknown_job
from service.gateway.negotiation import PREFERRED, choose
from service.gateway.representations import Representation, answer_with
from service.gateway.state import GatewayState, State, state_of

router = APIRouter(prefix="/api/enhancement", tags=["enhancement"], route_class=GuardedRoute)
_OWN: Final = "private, no-cache"
"""For pictures of a job: they change when the job is processed again, and only its key may read them."""
_MEDIA_TYPES: Final = {extension: media_type for media_type, extension in EXTENSIONS.items()}


class SignedRoute(APIRoute):
    """A route that accepts a signed link, or an admin key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            state = state_of(request)
            access: Access = state.access
            name = str(request.path_params["name"])
            request.state.link_seconds = None
            if "signature" in request.query_params or "expires" in request.query_params:
                access.count_link(request)
                expires, signature = (request.query_params.get(key, "") for key in ("expires", "signature"))
                request.state.link_seconds = check_link(name, expires, signature, state.settings)
            else:
                request.state.caller = access.check(request)
                if not caller_of(request).admin:
                    raise Refused("admin_only", "This needs a signed link or an admin key.")
            return await handle(request)

        return check_and_handle


media_router = APIRouter(tags=["media"], route_class=SignedRoute)


@router.head("/{job_id}/variants/{name}", include_in_schema=False)
@router.get("/{job_id}/variants/{name}", response_class=Response)
async def variant(
    request: Request, job_id: str, name: str, state: State, caller: By, owner: Owner = None
) -> Response:
    """A variant of a finished job, or its `master`.

    Variants of the same size in several formats are alternatives: `Accept` chooses. ETag, ranges and HEAD are supported.
    """
    record = await record_of(job_id, caller, owner, state)
    names = _alternatives(record, name)
    places = [state.engine.jobs.place_of(record.result, record.request.out, one) for one in names]
    folder = places[0][0]
    objects = [(object_name, media_type) for _, object_name, media_type in places]
    return await _answer(request, state, folder, objects, _OWN, has_alternatives=True)


def _alternatives(record: JobRecord, name: str) -> list[str]:
    """The named picture, then those of the same size in other formats."""
    variants = {one.name: one for one in record.result.variants}
    named = variants.get(name)
    if named is None:
        return [name]
    size = (named.width, named.height)
    others = [
        one for one in variants.values() if one.format != named.format and (one.width, one.height) == size
    ]
    ranks: dict[str, int] = {one: rank for rank, one in enumerate(PREFERRED)}
    others.sort(key=lambda one: ranks.get(one.format, len(ranks)))
    return list(dict.fromkeys((name, *(one.name for one in others))))


@router.head("/{job_id}/preview", include_in_schema=False)
@router.get("/{job_id}/preview", response_class=Response)
async def preview(request: Request, job_id: str, state: State, caller: By, owner: Owner = None) -> Response:
    """A small WebP of the source of a job, which exists before the page is enhanced."""
    key = await key_for(job_id, caller, owner, state)
    shown = await asyncio.to_thread(_find_preview, key, state)
    return await asyncio.to_thread(answer_with, request, shown)


def _find_preview(key: JobKey, state: GatewayState) -> Representation:
    """The preview of a job that runs or has ended: from the store, or else from the destination.

    Raises:
        Rejected: `unknown_job`; `not_found`, the page was not read yet, or its preview is no longer stored.
    """
    record = state.engine.jobs.job(key)
    known = state.event_stream.preview_of(key)
    found = record.result.preview if record is not None else None
    if known is not None:  # the job may be processed again, with another source
        found = ArtifactRef(uri="", **known["preview"])
    if found is None:
        raise _not_found() if record is not None or state.event_stream.knows(key) else unknown_job()
    data = state.engine.store.read_named(found.sha256, found.media_type)
    if data is None and record is not None and found.uri:
        folder = open_folder(record.request.out, state.settings)
        data = folder.read(name_of(found.uri, folder))
    if data is None:
        raise _not_found()
    headers = {"Cache-Control": _OWN}
    return Representation(found.media_type, len(data), f'"{found.sha256}"', 0.0, lambda: data, headers)


@media_router.head(MEDIA_PATH + "{name:path}", include_in_schema=False)
@media_router.get(MEDIA_PATH + "{name:path}", response_class=Response)
async def media(request: Request, name: str, state: State) -> Response:
    """A published picture of the default destination under the name of its object, for a signed link or an admin key.

    Without the extension of the name, `Accept` chooses among the formats of this name.
    """
    folder = await asyncio.to_thread(open_folder, state.settings.default_out, state.settings)
    if is_picture_name(name):
        objects, chosen = [(name, _MEDIA_TYPES[name.rpartition(".")[2]])], False
    elif is_picture_name(f"{name}.png"):
        objects, chosen = await asyncio.to_thread(_formats_of, folder, name), True
    else:
        raise _not_found()
    cache = _cache_control(objects, request.state.link_seconds, state)
    return await _answer(request, state, folder, objects, cache, has_alternatives=chosen)


def _formats_of(folder: ObjectFolder, name: str) -> list[tuple[str, str]]:
    """The stored formats of a picture whose name has no extension, those for the web first."""
    stored = {file.name for file in folder.files(f"{name}.")}
    extensions = dict.fromkeys((*(EXTENSIONS[MEDIA_TYPES[one]] for one in PREFERRED), *_MEDIA_TYPES))
    return [(f"{name}.{one}", _MEDIA_TYPES[one]) for one in extensions if f"{name}.{one}" in stored]


def _cache_control(objects: list[tuple[str, str]], link_seconds: int | None, state: GatewayState) -> str:
    """For how long a published picture may be cached.

    A signed link works for its holder and for a while. An admin key is that of a CDN if the settings name one: its copies are public.
    """
    published = cache_control_of(objects[0][0]) if objects else IMMUTABLE
    if link_seconds is not None:
        return f"private, max-age={link_seconds}, immutable"
    return published if state.settings.public_url else published.replace("public", "private")


async def _answer(
    request: Request,
    state: GatewayState,
    folder: ObjectFolder,
    objects: list[tuple[str, str]],
    cache_control: str,
    *,
    has_alternatives: bool,
) -> Response:
    """Send one of the objects (name and media type), the preferred one first; or a conversion of the first one."""
    by_type: dict[str, str] = {}
    for name, media_type in objects:
        by_type.setdefault(media_type, name)
    if not by_type:
        raise _not_found()
    media_type, convert = next(iter(by_type)), False
    if has_alternatives:
        media_type, convert = choose(request.headers.get("accept"), list(by_type))
    name = next(iter(by_type.values())) if convert else by_type[media_type]
    headers = {
        "Cache-Control": cache_control,
        "Content-Disposition": content_disposition(name.rpartition("/")[2]),
        **({"Vary": "Accept"} if has_alternatives else {}),
    }
    picture = await asyncio.to_thread(_stored_picture, folder, name, media_type, headers)
    if convert:
        picture = await _converted(picture, name, media_type, state)
    return await asyncio.to_thread(answer_with, request, picture)


def _stored_picture(
    folder: ObjectFolder, name: str, media_type: str, headers: dict[str, str]
) -> Representation:
    info = folder.info(name)
    if info is None:
        raise _not_found()
    return Representation(
        media_type, info.bytes, _etag_of(info), info.changed, partial(_read, folder, info), headers
    )


def _etag_of(info: FileInfo, kind: str = "") -> str:
    """A strong ETag from the version of an object. `kind` names what was made of it."""
    text = f"{info.name}\n{info.version}\n{info.bytes}\n{kind}"
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def _read(folder: ObjectFolder, expected: FileInfo) -> bytes:
    """The bytes of an object in the version of the ETag.

    Raises:
        Transient: `replaced`, another version was written in the meantime.
    """
    data = folder.read(expected.name)
    if data is None:
        raise _not_found()
    info = folder.info(expected.name)
    if info is None or info.version != expected.version or len(data) != expected.bytes:
        raise Transient("replaced", "The picture was replaced while it was read; request it again.")
    return data


async def _converted(
    stored: Representation, name: str, media_type: str, state: GatewayState
) -> Representation:
    """A picture in a format that is not stored. The same version of Panelworks makes the same bytes of it."""
    data = await asyncio.to_thread(stored.read)
    made = await state.conversions.convert(stored.etag, data, media_type)
    text = f"{stored.etag}\n{media_type}\n{__version__}"
    disposition = content_disposition(
        f"{name.rpartition('/')[2].rpartition('.')[0]}.{EXTENSIONS[media_type]}"
    )
    return replace(
        stored,
        media_type=media_type,
        size=len(made),
        etag=f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"',
        read=lambda: made,
        headers={**stored.headers, "Content-Disposition": disposition},
    )


def _not_found() -> Rejected:
    return Rejected("not_found", "There is no published picture of this name.")
