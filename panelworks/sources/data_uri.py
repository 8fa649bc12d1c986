"""`data:` addresses, decoded in pieces: the memory that decoding needs depends only on the size of the content."""

import base64
import io
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from panelworks.errors import Rejected

_HEAD_CHARACTERS: Final = 256
"""The media type and its parameters must end within this length. Matching takes 160 bytes a character."""
_HEAD: Final = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.ASCII)
_PIECE_CHARACTERS: Final = 64 * 1024
"""`unquote_to_bytes` creates an object of at least 36 bytes for each percent sign of its text."""
_ESCAPE_CHARACTERS: Final = 3
_GROUP_CHARACTERS: Final = 4
"""Characters of base64 that encode three bytes."""
_MAX_PADDING_CHARACTERS: Final = 8
"""More than two are invalid, but harmless."""


def decode_data_uri(source: str, max_bytes: int) -> tuple[str, bytes]:
    """The media type and the bytes of a `data:` address. Decoding needs a few megabytes in addition to the result.

    Raises:
        Rejected: `bad_data_uri`; `too_large`, its content has more than `max_bytes`.
    """
    head = _HEAD.match(source[:_HEAD_CHARACTERS])
    if head is None:
        raise Rejected("bad_data_uri", "The data URI is not well formed.")
    pieces = decode_percent(source, head.end())
    if head["parameters"].lower().endswith(";base64"):
        pieces = _decode_base64(pieces)
    data = io.BytesIO()
    try:
        for piece in pieces:
            if data.write(piece) and data.tell() > max_bytes:
                raise Rejected("too_large", f"The data URI contains more than {max_bytes / 2**20:.0f} MiB.")
    except ValueError as error:  # includes binascii.Error, and the error for half of a surrogate pair
        raise Rejected("bad_data_uri", "The data URI's base64 is not well formed.") from error
    return head["type"], data.getvalue()


def decode_percent(text: str, start: int = 0) -> Iterator[bytes]:
    """The bytes of percent-encoded text from the character `start` on, in pieces.

    Raises:
        UnicodeEncodeError: the text contains half of a surrogate pair.
    """
    while start < len(text):
        end = start + _PIECE_CHARACTERS
        last = text.rfind("%", max(start, end - _ESCAPE_CHARACTERS + 1), end)
        if last > start and end < len(text):  # do not split an escape
            end = last
        yield unquote_to_bytes(text[start:end])
        start = end


def _decode_base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decode base64 in pieces. Raises `ValueError` as `base64.b64decode` does; text after the padding is an error."""
    rest = b""
    for piece in pieces:
        rest += piece
        padding = rest.find(b"=")
        if 0 <= padding < len(rest) - _MAX_PADDING_CHARACTERS:
            raise ValueError("there is text after the padding")
        # Keep the last four characters: their padding may be in the next piece.
        whole = (
            len(rest) if padding < 0 else padding
        ) // _GROUP_CHARACTERS * _GROUP_CHARACTERS - _GROUP_CHARACTERS
        if whole > 0:
            yield base64.b64decode(rest[:whole], validate=True)
            rest = rest[whole:]
    yield base64.b64decode(rest, validate=True)
