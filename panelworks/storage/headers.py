"""Delivered objects as browsers and CDNs see them: headers, metadata, and the address at the CDN."""

import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, unquote

from pydantic import Field

from panelworks.domain.fields import Frozen
from panelworks.domain.formats import EXTENSIONS
from panelworks.domain.result import REVIEW_FOLDER
from panelworks.settings import Settings
from panelworks.storage.location import Location

IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""For objects whose names contain the content key: another content has another name."""
REVALIDATE: Final = "no-cache"
"""For objects under stable names: caches ask before each use whether the object has changed."""
WAITING: Final = "private, no-store"
"""For objects that wait for the decision of a person: no cache may store them."""
_EXTENSIONS: Final = "|".join(sorted(set(EXTENSIONS.values())))
_PUBLISHED_PICTURE: Final = re.compile(
    r"(?:[^/\x00-\x1f\x7f\\]+/)*(?:variants/[0-9a-f]{64}(?:-original)?/[^/\x00-\x1f\x7f\\]+"
    r"|previews/[0-9a-f]{64}"
    r"|(?:good_quality|upscaled|couldn't_upscale)/[^/\x00-\x1f\x7f\\]+-[0-9a-f]{12})"
    rf"\.(?:{_EXTENSIONS})",
    re.ASCII,
)
"""A name of a delivered picture, which contains the content key; also below another folder."""
_PRINTABLE_ASCII: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_MAX_NAME_CHARACTERS: Final = 1024
"""S3's limit on keys, in bytes."""
_MAX_PART_BYTES: Final = 255
"""The limit of file systems on the name of a file or folder."""
_MAX_FILENAME_CHARACTERS: Final = 150
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,10}", re.ASCII)
_UNSAFE_IN_FILENAME: Final = re.compile(r'[\x00-\x1f\x7f"\\/%;:*?<>|]')
_ATTRIBUTE_CHARACTERS: Final = "!#$&+^`|"
"""Characters that RFC 8187 leaves as they are, beside letters, digits and `_.-~`."""


class ObjectHeaders(Frozen):
    """Headers of an object beside its media type. A local folder does not store them."""

    cache_control: str
    content_disposition: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    """User metadata, in ASCII without control characters."""
    is_published: bool = True
    """May readers see the object? Only then do the ACL and the storage class of the settings apply."""


def headers_of(
    name: str,
    settings: Settings,
    *,
    filename: str | None = None,
    content_key: str | None = None,
    route: str | None = None,
    waits: bool = False,
) -> ObjectHeaders:
    """The headers of a delivered object.

    Args:
        name: Its name below the destination.
        settings: The licence.
        filename: What a browser suggests when a person saves it; by default the last part of the name.
        content_key: Of its page.
        route: Of its page.
        waits: Does it wait for the decision of a person? Objects under `review/` always do.
    """
    waits = waits or is_in_review(name)
    metadata = {"content-key": content_key, "route": route, "licence": settings.licence}
    return ObjectHeaders(
        cache_control=WAITING if waits else cache_control_of(name),
        content_disposition=content_disposition(filename or name.rpartition("/")[2]),
        metadata={key: _to_ascii(value) for key, value in metadata.items() if value},
        is_published=not waits,
    )


def cache_control_of(name: str) -> str:
    """How long caches may keep a published object of this name."""
    return IMMUTABLE if is_picture_name(name) else REVALIDATE


def is_picture_name(name: str) -> bool:
    """Is this the name of a published picture, which contains its content key?"""
    parts = name.split("/")
    longest = max(len(part.encode("utf-8", "surrogatepass")) for part in parts)
    if len(name) > _MAX_NAME_CHARACTERS or longest > _MAX_PART_BYTES or {".", ".."}.intersection(parts):
        return False
    return _PUBLISHED_PICTURE.fullmatch(name) is not None and not is_in_review(name)


def is_in_review(name: str) -> bool:
    """Is one of the folders in the name that of pages and books that wait for review?"""
    return REVIEW_FOLDER.rstrip("/") in name.split("/")[:-1]


def content_disposition(filename: str) -> str:
    """`inline` with a file name in both forms of RFC 6266: in ASCII for old clients, in UTF-8 for all others."""
    safe = _UNSAFE_IN_FILENAME.sub("_", filename.encode(errors="replace").decode())
    extension = PurePosixPath(safe).suffix if _EXTENSION.fullmatch(PurePosixPath(safe).suffix) else ""
    stem = safe.removesuffix(extension)[:_MAX_FILENAME_CHARACTERS]
    name = f"{stem or 'page'}{extension}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    header = f'inline; filename="{plain}"'
    return (
        header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE_CHARACTERS)}"
    )


def public_url(uri: str, settings: Settings) -> str | None:
    """The address of a published object at the CDN.

    None without PANELWORKS_PUBLIC_URL, for objects outside the default destination, and for those that wait for review.
    """
    name = delivered_name(uri, settings) if settings.public_url else None
    return f"{(settings.public_url or '').rstrip('/')}/{quote(name)}" if name else None


def delivered_name(uri: str, settings: Settings) -> str | None:
    """The name of a published object below the default destination; None for other objects.

    Args:
        uri: Its address, as `ObjectFolder.uri` returns it, or a local path.
        settings: The default destination.
    """
    out, place = Location.parse(settings.default_out), Location.parse(uri)
    if out.is_in_bucket != place.is_in_bucket:
        return None
    if place.is_in_bucket:
        prefix = f"{out.key.strip('/')}/" if out.key.strip("/") else ""
        if place.bucket != out.bucket or not place.key.startswith(prefix):
            return None
        name = place.key.removeprefix(prefix)
    else:
        root = f"{out.absolute_path.as_uri()}/"
        address = uri if place.scheme == "file" else place.absolute_path.as_uri()
        if not address.startswith(root):
            return None
        name = unquote(address.removeprefix(root))
    return name if name and not is_in_review(name) else None


def _to_ascii(value: str) -> str:
    """A value for a header: printable ASCII, everything else percent-encoded as UTF-8."""
    return quote(" ".join(value.split()), safe=_PRINTABLE_ASCII)
