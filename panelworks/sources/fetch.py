"""Reading a source by its address: a path, `file://`, `https://`, `s3://` or `data:`."""

import base64
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from panelworks.errors import Rejected
from panelworks.settings import Settings
from panelworks.sources.data_uri import decode_data_uri
from panelworks.sources.web import download
from panelworks.storage.location import Location, scheme_of
from panelworks.storage.s3 import S3Folder
from panelworks.text import address_to_path, path_to_text, to_printable


def read_object(address: str, settings: Settings) -> bytes:
    """The bytes of `s3://bucket/key`, at most `settings.max_source_bytes`.

    Raises:
        Rejected: `not_found`, `too_large`.
        Transient, Misconfigured: the bucket cannot be read.
    """
    place = Location.parse(address)
    data = S3Folder(place.bucket, "", settings).read(place.key, limit=settings.max_source_bytes)
    if data is None:
        raise Rejected("not_found", f"There is no object {address}.")
    return data


_MAX_STEM_BYTES: Final = 160
"""In UTF-8. File systems allow 255 for a name, which also contains a key and an extension."""
_SCHEMES: Final = ("https:", "http:", "file:")


@dataclass(frozen=True)
class Fetched:
    """The bytes of a source."""

    data: bytes
    stem: str
    """File name without folder and extension, safe as part of an object name."""
    uri: str
    """The address for display: a data URI is shortened."""
    notes: tuple[str, ...] = ()
    """Notes for people, such as which frame of a video was used."""


def fetch(source: str, settings: Settings) -> Fetched:
    """Read a source, at most `settings.max_source_bytes`.

    Raises:
        Rejected: `not_found`, `too_large`, `unsupported_scheme`, `bad_data_uri` and others.
        UnsafeSource: `forbidden_address`.
        Transient: the network or the bucket does not answer.
    """
    if source.startswith("data:"):
        return _decode_data_uri(source, settings)
    if source.startswith("s3://"):
        return Fetched(read_object(source, settings), safe_stem(source), source)
    scheme = scheme_of(source)
    if scheme is None or (not source.startswith(_SCHEMES) and _exists(source)):
        return _read_file(address_to_path(source), settings)
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise Rejected("bad_address", "The address is not well formed.") from error
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise Rejected("unsupported_scheme", "A file:// address cannot name another machine.")
        return _read_file(address_to_path(source), settings)
    if parts.scheme in ("https", "http"):
        return Fetched(download(source, settings), safe_stem(unquote(parts.path)), shown(source))
    raise Rejected("unsupported_scheme", f"Addresses of the kind {parts.scheme}: are not supported.")


def shown(source: str) -> str:
    """A source for storage and display: without password, signature, or the content of a data URI."""
    if source.startswith("data:"):
        return f"{source[:40].partition(',')[0]};…"
    if not source.startswith(("https:", "http:")):
        return source
    try:
        parts = urlsplit(source)
    except ValueError:
        return source.partition("?")[0]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _exists(path: str) -> bool:
    try:
        return address_to_path(path).exists()
    except (OSError, ValueError):
        return False


def inline(data: bytes) -> str:
    """Encode bytes as a source: a data URI."""
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode("ascii")


def short_name(source: str) -> str:
    """The name of a source in a list of runs."""
    if source.startswith("data:"):
        return "data"
    if source.startswith("stored:"):
        return safe_stem(unquote(source))
    return safe_stem(unquote(shown(source)) if source.startswith(("https:", "http:")) else source)


def safe_stem(path: str) -> str:
    """The file name in `path` without extension, with only letters, digits, `.`, `_` and `-`."""
    name = unicodedata.normalize("NFC", path.replace("\\", "/").rsplit("/", 1)[-1])
    stem = name.rsplit(".", 1)[0] if "." in name.lstrip(".") else name
    allowed = "".join(c if c.isalnum() or c in "._-" else "-" for c in stem)
    short = re.sub(r"-{2,}", "-", allowed).strip("-.").encode()[:_MAX_STEM_BYTES]
    return short.decode(errors="ignore") or "page"


def _read_file(path: Path, settings: Settings) -> Fetched:
    try:
        if not path.is_file():
            if path.is_dir():
                raise Rejected(
                    "not_found",
                    f"{to_printable(path_to_text(path))} is a folder; 'panelworks backfill' enhances books.",
                )
            raise Rejected("not_found", f"There is no file at {to_printable(path_to_text(path))}.")
        with path.open("rb") as file:
            data = file.read(settings.max_source_bytes + 1)
        address = path.resolve().as_uri()
    except (OSError, ValueError) as error:
        raise Rejected(
            "unreadable", f"{to_printable(path_to_text(path))} cannot be read ({type(error).__name__})."
        ) from error
    if len(data) > settings.max_source_bytes:
        raise Rejected(
            "too_large",
            f"The file has more than {settings.max_source_bytes / 2**20:.0f} MiB, which is the limit.",
        )
    return Fetched(data, safe_stem(path_to_text(path.name)), address)


def _decode_data_uri(source: str, settings: Settings) -> Fetched:
    media_type, data = decode_data_uri(source, settings.max_source_bytes)
    return Fetched(data, "page", f"data:{media_type};… ({len(data)} bytes)")
