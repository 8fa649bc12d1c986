"""libtiff's error messages while Pillow decodes a TIFF.

Pillow fails only if libtiff gives up. If libtiff continues after an error (such as a bad code word of a fax), it
reports the error to its handler, and Pillow returns the pixels without an error. The handler in this module collects
the messages of the calling thread. Without it, libtiff prints them on standard error. Pillow disables libtiff's
warnings each time it opens a file, so that the handler receives errors only.
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
_TAG_FUNCTIONS: Final = ("TIFFFetch", "TIFFReadDirEntry", "TIFFReadCustomDirectory", "TIFFReadEXIFDirectory")
"""Functions of libtiff whose errors concern descriptive tags. libtiff gives up without a required tag."""
_UNSUPPORTED_PHRASES: Final = (
    "not configured",
    "not supported",
    "not implemented",
    "unsupported",
    "can not handle",
)
"""Phrases in libtiff's messages about valid files that it does not support."""
_HandlerType = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""`void (*)(const char *module, const char *format, va_list)`; a va_list is passed as a pointer on 64-bit systems."""


class _ThreadMessages(threading.local):
    """The messages of this thread while it collects them."""

    messages: list[str] | None = None


_thread_messages = _ThreadMessages()


@contextmanager
def collect_errors() -> Iterator[list[str]]:
    """Collect libtiff's errors about pixels inside the block, one sentence each, at most a thousand."""
    before, messages = _thread_messages.messages, list[str]()
    _thread_messages.messages = messages
    try:
        yield messages
    finally:
        _thread_messages.messages = before


def summarize(messages: list[str]) -> str:
    """Summarise messages: the first one and the number of others."""
    first, others = messages[0], len(messages) - 1
    return f"libtiff reports: {_lower_first(first)}" + (f" and {others} more errors" if others else "")


def decode_error(messages: list[str]) -> Rejected:
    """Return the error for a TIFF that libtiff cannot decode."""
    for message in messages:
        if any(words in message.lower() for words in _UNSUPPORTED_PHRASES):
            return Rejected(
                "unsupported_format", f"This kind of TIFF is not supported: {_lower_first(message)}."
            )
    return Rejected("damaged", f"The picture cannot be decoded: {summarize(messages)}.")


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _collect_message(module: bytes | None, form: bytes | None, arguments: int | None) -> None:
    messages = _thread_messages.messages
    if messages is None or form is None or len(messages) >= _MAX_MESSAGES:
        return
    if (module or b"").decode("ascii", "replace").startswith(_TAG_FUNCTIONS):
        return
    buffer = ctypes.create_string_buffer(_MAX_MESSAGE_BYTES)
    _format(buffer, _MAX_MESSAGE_BYTES, form, ctypes.c_void_p(arguments))
    messages.append(buffer.value.decode("utf-8", "replace").rstrip("."))


_receiver = _HandlerType(_collect_message)
"""Must exist as long as the process, because libtiff keeps the pointer."""


def _install_handler() -> None:
    """Register the handler with the libtiff that Pillow uses. Its symbols are found through Pillow's own module.

    If libtiff is linked into that module without symbols (Windows), errors are not collected.
    """
    try:
        register = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return
    register.restype = ctypes.c_void_p
    register.argtypes = [_HandlerType]
    register(_receiver)


if sys.platform != "win32":
    _format = ctypes.CDLL(None).vsnprintf
    _install_handler()
