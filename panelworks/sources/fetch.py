"""Fetching a source by its address: a path, `file://`, `https://`, `s3://` or `data:`."""

import base64
import binascii
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from panelworks.errors import Rejected
from panelworks.settings import Settings
from panelworks.sources.s3 import read_object
from panelworks.sources.web import download

_DATA_URI: Final = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.ASCII)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_LONGEST_STEM: Final = 80


@dataclass(frozen=True)
class Fetched:
    """The bytes of a source."""

    data: bytes
    stem: str
    """Name without folder and extension, safe as part of an object name."""
    uri: str
    """The address as it may be shown: a data URI is cut short."""


def fetch(source: str, settings: Settings) -> Fetched:
    """Read a source, never more than `settings.max_source_bytes`.

    Raises:
        Rejected: `not_found`, `too_large`, `unsupported_scheme`, `bad_data_uri` and others.
        UnsafeSource: `forbidden_address`.
        Transient: the network or the bucket did not answer.
    """
    if source.startswith("data:"):
        return _decode_data_uri(source, settings)
    if not _SCHEME.match(source):
        return _read_file(Path(source), settings)
    parts = urlsplit(source)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise Rejected("unsupported_scheme", "A file:// address cannot name another machine.")
        return _read_file(Path(unquote(parts.path)), settings)
    if parts.scheme in ("https", "http"):
        return Fetched(download(source, settings), safe_stem(unquote(parts.path)), source)
    if parts.scheme == "s3":
        data = read_object(parts.netloc, parts.path.lstrip("/"), settings)
        return Fetched(data, safe_stem(parts.path), source)
    if Path(source).exists():
        return _read_file(Path(source), settings)
    raise Rejected("unsupported_scheme", f"Addresses of the kind {parts.scheme}: are not read.")


def inline(data: bytes) -> str:
    """Raw bytes as a source: a data URI."""
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode("ascii")


def short_name(source: str) -> str:
    """What to call a source in a list of runs, before it was read."""
    if source.startswith("data:"):
        return "data"
    return safe_stem(unquote(urlsplit(source).path) if _SCHEME.match(source) else source)


def safe_stem(path: str) -> str:
    """The file name in `path` without extension, with only letters, digits, `.`, `_` and `-`."""
    name = unicodedata.normalize("NFC", path.replace("\\", "/").rsplit("/", 1)[-1])
    stem = name.rsplit(".", 1)[0] if "." in name.lstrip(".") else name
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in stem)
    return re.sub(r"-{2,}", "-", kept).strip("-.")[:_LONGEST_STEM] or "page"


def _read_file(path: Path, settings: Settings) -> Fetched:
    try:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "no file"
            raise Rejected("not_found", f"There is {kind} at {path}.")
        with path.open("rb") as file:
            data = file.read(settings.max_source_bytes + 1)
        address = path.resolve().as_uri()
    except (OSError, ValueError) as error:
        raise Rejected("unreadable", f"{path} cannot be read ({type(error).__name__}).") from error
    if len(data) > settings.max_source_bytes:
        raise Rejected(
            "too_large",
            f"The file has more than {settings.max_source_bytes / 2**20:.0f} MiB, which is the most that is read.",
        )
    return Fetched(data, safe_stem(path.name), address)


def _decode_data_uri(source: str, settings: Settings) -> Fetched:
    match = _DATA_URI.match(source)
    if match is None:
        raise Rejected("bad_data_uri", "The data URI is not well formed.")
    body = source[match.end() :]
    # Four base64 characters hold three bytes; percent-encoding holds at most one byte a character.
    if len(body) * 3 // 4 > settings.max_source_bytes + 3:
        raise Rejected(
            "too_large", f"The data URI holds more than {settings.max_source_bytes / 2**20:.0f} MiB."
        )
    try:
        plain = unquote_to_bytes(body)
        encoded = match["parameters"].lower().endswith(";base64")
        data = base64.b64decode(plain, validate=True) if encoded else plain
    except (binascii.Error, ValueError) as error:
        raise Rejected("bad_data_uri", "The data URI's base64 is not well formed.") from error
    return Fetched(data, "page", f"data:{match['type']};… ({len(data)} bytes)")
