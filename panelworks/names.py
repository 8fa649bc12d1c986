"""Foreign names: how a file name of any bytes is addressed, shown and stored.

Python represents bytes of a path that the file system encoding cannot decode as lone surrogates, which JSON, UTF-8 output,
Parquet and S3 refuse. Here such a path becomes a `file://` address, which is reversible, and a name for people shows
what cannot be printed as an escape.
"""

import codecs
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

_FILE: Final = "file://"
_UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters, line and paragraph separators, marks that change the direction of text, lone surrogates."""


def text_of(path: str | os.PathLike[str]) -> str:
    """A path of this system as text that does not depend on the locale: UTF-8, other bytes as lone surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def path_of(text: str) -> Path:
    """The path of this system for a text of `text_of`."""
    return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))


def address_of(path: str | os.PathLike[str]) -> str:
    """A path as it is stored in records: itself where it is UTF-8, else a `file://` address of the same bytes."""
    text = text_of(path)
    if _is_unicode(text):
        return text
    return f"{_FILE}{quote(os.fsencode(Path(path).expanduser().absolute()))}"


def local_path(address: str) -> Path:
    """The path that `address_of` was given; a path stays one, also one that this system encodes in its own way."""
    if address[:6].lower() == "file:/":
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(address).path)))
    try:
        return path_of(address)
    except UnicodeEncodeError:  # lone surrogates that stand for no byte
        return Path(address.encode("utf-8", "replace").decode())


def shown(name: str) -> str:
    """A name on one line that any output can print: what is not printable as `\\xe9` or `\\u202e`."""
    return _UNPRINTABLE.sub(_escaped, name)


def stored(name: str) -> str:
    """A name that every file system, bucket and header can hold: bytes that are not UTF-8 as `%E9`, what is not
    printable as `_`."""
    return _UNPRINTABLE.sub(_replaced, name)


def known_encoding(name: str | None) -> str | None:
    """The name of a text encoding as Python writes it; None for none.

    Raises:
        ValueError: there is no such encoding.
    """
    if not name:
        return None
    try:
        found = codecs.lookup(name)
        b"a".decode(found.name)
    except LookupError as error:
        raise ValueError(f"there is no text encoding {name!r}") from error
    return found.name


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _byte_of(character: str) -> int | None:
    """The byte that a lone surrogate stands for, None for any other character."""
    return ord(character) - 0xDC00 if "\udc80" <= character <= "\udcff" else None


def _escaped(match: re.Match[str]) -> str:
    byte = _byte_of(match[0])
    code = byte if byte is not None else ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _replaced(match: re.Match[str]) -> str:
    byte = _byte_of(match[0])
    return "_" if byte is None else f"%{byte:02X}"
