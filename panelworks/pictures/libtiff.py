"""libtiff's error messages while Pillow decodes a TIFF.

Pillow fails only where libtiff gives up. Where libtiff goes on after an error (each bad code word of a fax), it reports the
error to its handler and Pillow returns the pixels as sound ones. The handler here collects the messages of the calling
thread; without it libtiff prints them on standard error. Pillow turns libtiff's warnings off each time it opens a file, so
that only errors arrive here.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from PIL import _imaging

from panelworks.errors import Rejected

_MAX_MESSAGE_BYTES: Final = 300
_MAX_MESSAGES: Final = 1_000
_ABOUT_TAGS: Final = ("TIFFFetch", "TIFFReadDirEntry", "TIFFReadCustomDirectory", "TIFFReadEXIFDirectory")
"""Functions of libtiff whose errors concern tags that describe the picture; without a required tag libtiff gives up."""
_UNSUPPORTED: Final = ("not configured", "not supported", "not implemented", "unsupported", "can not handle")
"""What libtiff says about files that it does not read although they are sound."""
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""`void (*)(const char *module, const char *format, va_list)`; a va_list is passed as a pointer on 64-bit systems."""


class _Collected(threading.local):
    """The messages that arrived in this thread while something collects them."""

    messages: list[str] | None = None


_collected = _Collected()


@contextmanager
def collected_errors() -> Iterator[list[str]]:
    """What libtiff reports about pixels inside the block, one sentence an error, at most a thousand."""
    before, messages = _collected.messages, list[str]()
    _collected.messages = messages
    try:
        yield messages
    finally:
        _collected.messages = before


def summary(messages: list[str]) -> str:
    """The first message and how many followed."""
    first, others = messages[0], len(messages) - 1
    return f"libtiff reports: {_lower(first)}" + (f" and {others} more errors" if others else "")


def refusal(messages: list[str]) -> Rejected:
    """The error for a TIFF that libtiff cannot decode."""
    for message in messages:
        if any(words in message.lower() for words in _UNSUPPORTED):
            return Rejected("unsupported_format", f"This kind of TIFF is not read: {_lower(message)}.")
    return Rejected("damaged", f"The picture cannot be decoded: {summary(messages)}.")


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _receive(module: bytes | None, form: bytes | None, arguments: int | None) -> None:
    messages = _collected.messages
    if messages is None or form is None or len(messages) >= _MAX_MESSAGES:
        return
    if (module or b"").decode("ascii", "replace").startswith(_ABOUT_TAGS):
        return
    buffer = ctypes.create_string_buffer(_MAX_MESSAGE_BYTES)
    _format(buffer, _MAX_MESSAGE_BYTES, form, ctypes.c_void_p(arguments))
    messages.append(buffer.value.decode("utf-8", "replace").rstrip("."))


_receiver = _Handler(_receive)
"""Kept for the life of the process, as libtiff keeps the pointer."""


def _install() -> None:
    """Register the handler with the libtiff that Pillow uses; its symbols are found through Pillow's own module.

    Where libtiff is linked into that module without symbols (Windows), errors stay unnoticed.
    """
    try:
        register = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return
    register.restype = ctypes.c_void_p
    register.argtypes = [_Handler]
    register(_receiver)


if sys.platform != "win32":
    _format = ctypes.CDLL(None).vsnprintf
    _install()
