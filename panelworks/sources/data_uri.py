"""`data:` addresses, decoded in pieces: what they take is what they hold, whatever their text looks like."""

import base64
import io
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from panelworks.errors import Rejected

_HEAD_CHARACTERS: Final = 256
"""The media type and its parameters end within these; matching them takes 160 bytes a character."""
_HEAD: Final = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.ASCII)
_PIECE_CHARACTERS: Final = 64 * 1024
"""Python's `unquote_to_bytes` makes an object of 36 bytes and more for each percent sign of the text it is given."""
_ESCAPE_CHARACTERS: Final = 3
_QUANTUM: Final = 4
"""Characters of base64 that hold three bytes."""
_MAX_PADDING_CHARACTERS: Final = 8
"""More than two are wrong, but harmless."""


def decode_data_uri(source: str, max_bytes: int) -> tuple[str, bytes]:
    """The media type and the bytes of a `data:` address. Beside the result, decoding takes a few megabytes.

    Raises:
        Rejected: `bad_data_uri`; `too_large`, it holds more than `max_bytes`.
    """
    head = _HEAD.match(source[:_HEAD_CHARACTERS])
    if head is None:
        raise Rejected("bad_data_uri", "The data URI is not well formed.")
    pieces = percent_decoded(source, head.end())
    if head["parameters"].lower().endswith(";base64"):
        pieces = _base64_decoded(pieces)
    data = io.BytesIO()
    try:
        for piece in pieces:
            if data.write(piece) and data.tell() > max_bytes:
                raise Rejected("too_large", f"The data URI holds more than {max_bytes / 2**20:.0f} MiB.")
    except ValueError as error:  # binascii.Error is one; so are characters that are half of a surrogate pair
        raise Rejected("bad_data_uri", "The data URI's base64 is not well formed.") from error
    return head["type"], data.getvalue()


def percent_decoded(text: str, start: int = 0) -> Iterator[bytes]:
    """The bytes of percent-encoded text from the character `start` on, in pieces.

    Raises:
        UnicodeEncodeError: the text holds half of a surrogate pair.
    """
    while start < len(text):
        end = start + _PIECE_CHARACTERS
        last = text.rfind("%", max(start, end - _ESCAPE_CHARACTERS + 1), end)
        if last > start and end < len(text):  # an escape stays in one piece
            end = last
        yield unquote_to_bytes(text[start:end])
        start = end


def _base64_decoded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Raises `ValueError` as `base64.b64decode` does: padding ends the text, and nothing else than base64 is skipped."""
    rest = b""
    for piece in pieces:
        rest += piece
        padding = rest.find(b"=")
        if 0 <= padding < len(rest) - _MAX_PADDING_CHARACTERS:
            raise ValueError("there is text after the padding")
        # The last four characters wait: their padding may be in the next piece.
        whole = (len(rest) if padding < 0 else padding) // _QUANTUM * _QUANTUM - _QUANTUM
        if whole > 0:
            yield base64.b64decode(rest[:whole], validate=True)
            rest = rest[whole:]
    yield base64.b64decode(rest, validate=True)
