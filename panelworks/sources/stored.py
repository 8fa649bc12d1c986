"""Uploads as sources: `stored:SHA256.FORMAT/FILENAME` identifies bytes in the working store."""

import re
from typing import Final
from urllib.parse import quote, unquote

from panelworks.domain.formats import EXTENSIONS, MEDIA_TYPES
from panelworks.domain.result import SourceInfo
from panelworks.errors import Rejected
from panelworks.sources.fetch import short_name

_STORED: Final = re.compile(
    r"stored:(?P<digest>[0-9a-f]{64})\.(?P<format>[a-z0-9]+)/(?P<name>[^/]*)", re.ASCII
)


def stored_source(sha256: str, format: str, filename: str) -> str:
    """The source of an upload."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1][:200] or "page"
    return f"stored:{sha256}.{format}/{quote(name, safe='')}"


def stored_original(source: SourceInfo) -> str:
    """The source of a processed page's original in the store."""
    return stored_page(source.sha256, source.format, short_name(source.uri))


def stored_page(sha256: str, format: str, stem: str) -> str:
    """The source of a page that is in the store; `stem` is its name without extension."""
    return stored_source(sha256, format, f"{stem}.{EXTENSIONS[MEDIA_TYPES[format]]}")


def upload_missing() -> Rejected:
    """The error for an upload that is not in the store or belongs to another API key: the same for both."""
    return Rejected("not_found", "The uploaded picture is no longer stored; upload it again.")


def parse_stored(source: str) -> tuple[str, str, str]:
    """SHA-256, format and file name.

    Raises:
        Rejected: `bad_address`.
    """
    match = _STORED.fullmatch(source)
    if match is None or match["format"] not in MEDIA_TYPES:
        raise Rejected("bad_address", "The address of the upload is not well formed.")
    return match["digest"], match["format"], unquote(match["name"])
