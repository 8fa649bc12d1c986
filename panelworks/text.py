"""Untrusted text: file names of arbitrary bytes, and text inside Markdown.

Python decodes bytes of a path that are not valid in the file system encoding to lone surrogates. JSON, UTF-8 output,
Parquet and S3 refuse these. Such a path is stored as a `file://` address, which is reversible. Names for people show
unprintable characters as escapes. Text inside Markdown is shown literally: never as a link, a picture or HTML.
"""

import codecs
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

_FILE_SCHEME: Final = "file://"
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters, line and paragraph separators, marks of text direction, byte order marks, lone surrogates."""

_PUNCTUATION: Final = re.compile(r"([!-/:-@\[-`{-~])")
"""All ASCII punctuation. A backslash before any of it makes it literal (CommonMark 0.31.2, section 2.4); this also
keeps bare addresses from becoming links."""
_WHITE_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""White space and control characters. A line break would end the paragraph, list item or table row."""
MAX_MARKDOWN_CHARACTERS: Final = 2000
"""Longer texts are truncated."""


def path_to_text(path: str | os.PathLike[str]) -> str:
    """Convert a local path to text independently of the locale: UTF-8, with other bytes as lone surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def text_to_path(text: str) -> Path:
    """Convert the result of `path_to_text` back to a local path."""
    return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))


def path_to_address(path: str | os.PathLike[str]) -> str:
    """Convert a path to the form stored in records: unchanged if it is UTF-8, otherwise a `file://` address."""
    text = path_to_text(path)
    if _is_unicode(text):
        return text
    return f"{_FILE_SCHEME}{quote(os.fsencode(Path(path).expanduser().absolute()))}"


def address_to_path(address: str) -> Path:
    """Convert an address from `path_to_address`, or a plain path, to a local path."""
    if address[:6].lower() == "file:/":
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(address).path)))
    try:
        return text_to_path(address)
    except UnicodeEncodeError:  # lone surrogates that do not represent a byte
        return Path(address.encode("utf-8", "replace").decode())


def to_printable(name: str) -> str:
    """Escape unprintable characters as `\\xe9` or `\\u202e`. The result is one line that any output can print."""
    return _UNPRINTABLE.sub(_escape_match, name)


def to_storable(name: str) -> str:
    """Convert a name to one that every file system, bucket and header accepts.

    Bytes that are not UTF-8 become `%E9`, other unprintable characters `_`.
    """
    return _UNPRINTABLE.sub(_replace_match, name)


def normalize_encoding(name: str | None) -> str | None:
    """Return Python's spelling of the name of a text encoding; None for an empty name.

    Raises:
        ValueError: the encoding does not exist.
    """
    if not name:
        return None
    try:
        found = codecs.lookup(name)
        b"a".decode(found.name)
    except LookupError as error:
        raise ValueError(f"there is no text encoding {name!r}") from error
    return found.name


def escape_markdown(text: object) -> str:
    """Escape a text so that Markdown shows it literally, on one line."""
    return _PUNCTUATION.sub(r"\\\1", _to_one_line(text))


def code_span(text: object) -> str:
    """Format a text as inline code, even if it contains backticks. Not for table cells, where `|` ends the cell."""
    line = _to_one_line(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest or not line.strip() else f"{fence}{line}{fence}"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _byte_of(character: str) -> int | None:
    """The byte that a lone surrogate represents; None for any other character."""
    return ord(character) - 0xDC00 if "\udc80" <= character <= "\udcff" else None


def _escape_match(match: re.Match[str]) -> str:
    byte = _byte_of(match[0])
    code = byte if byte is not None else ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _replace_match(match: re.Match[str]) -> str:
    byte = _byte_of(match[0])
    return "_" if byte is None else f"%{byte:02X}"


def _to_one_line(text: object) -> str:
    line = _WHITE_SPACE.sub(" ", str(text)).strip()
    line = line.encode("utf-8", errors="replace").decode("utf-8")  # lone surrogates
    return line if len(line) <= MAX_MARKDOWN_CHARACTERS else f"{line[:MAX_MARKDOWN_CHARACTERS]}…"
