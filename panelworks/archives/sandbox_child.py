"""The program of a sandbox's child process, and the messages that it exchanges with its parent.

`panelworks.archives.sandbox` runs this file by its path. The child installs an empty package `panelworks`, so that a
module of the library is imported without the imports of the package (1 s). Functions that run in a child belong in modules
with few imports; this module imports only the standard library. Messages are JSON with separate bytes. Nothing is
unpickled: a compromised parser must not be able to run code in the parent.
"""

import importlib
import json
import os
import signal
import struct
import sys
import threading
import time
import traceback
import types
from contextlib import suppress
from dataclasses import dataclass
from inspect import isgenerator
from pathlib import Path
from typing import IO, Any, Final

_LENGTH: Final = struct.Struct("!I")
_MAX_HEADER_BYTES: Final = 64 << 20
_ADDRESS_RESERVE_BYTES: Final = 1 << 30
"""Address space in addition to the memory limit: libraries, and unused reservations of allocators."""


@dataclass(frozen=True)
class Limits:
    """The limits of one call."""

    seconds: float
    """Wall-clock time, and also CPU time, of one call or of one item of a stream."""
    memory_bytes: int
    """Memory of the child, including its interpreter (about 40 MB)."""
    output_bytes: int
    """Size of one reply."""
    subject: str = "document"
    """What is parsed, as messages name it."""


class TooMuchOutput(Exception):
    """A reply is larger than the limit."""


def encode_message(head: dict[str, Any], value: Any = None) -> list[bytes]:
    """The parts of a message: the length of the header, the header in JSON, and the bytes objects."""
    blobs: list[bytes] = []
    encoded = _encoded(value, blobs)
    header = json.dumps({**head, "value": encoded, "blobs": [len(blob) for blob in blobs]}).encode()
    return [_LENGTH.pack(len(header)), header, *blobs]


def write_message(pipe: IO[bytes], message: list[bytes]) -> None:
    """Write the parts of a message and flush the pipe."""
    for part in message:
        pipe.write(part)
    pipe.flush()


def read_message(pipe: IO[bytes], at_most: int) -> dict[str, Any] | None:
    """The next message; None at the end of the pipe.

    Raises:
        TooMuchOutput: it has more than `at_most` bytes.
        EOFError, ValueError, KeyError, TypeError: it is incomplete or invalid.
    """
    start = pipe.read(_LENGTH.size)
    if not start:
        return None
    (length,) = _LENGTH.unpack(start)
    if length > min(_MAX_HEADER_BYTES, max(at_most, 1 << 16)):
        raise TooMuchOutput
    message: dict[str, Any] = json.loads(_exactly(pipe, length))
    sizes = [int(size) for size in message["blobs"]]
    if min(sizes, default=0) < 0 or sum(sizes) > at_most:
        raise TooMuchOutput
    message["value"] = _decoded(message["value"], [_exactly(pipe, size) for size in sizes])
    return message


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _encoded(value: Any, blobs: list[bytes]) -> Any:
    """Convert a value for JSON: bytes become `{"bytes": index}`, dicts become `{"dict": ...}`."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        blobs.append(bytes(value))
        return {"bytes": len(blobs) - 1}
    if isinstance(value, dict):
        return {"dict": {key: _encoded(one, blobs) for key, one in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_encoded(one, blobs) for one in value]
    return value


def _decoded(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, dict):
        if "bytes" in value:
            return blobs[value["bytes"]]
        return {key: _decoded(one, blobs) for key, one in value["dict"].items()}
    if isinstance(value, list):
        return [_decoded(one, blobs) for one in value]
    return value


def _serve(start: dict[str, Any]) -> None:
    """Run the child: answer requests until the input ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not be read as a reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    limits = Limits(**start["limits"])
    _limit_resources(limits)
    threading.Thread(target=_exit_with_parent, args=(start["parent"],), daemon=True).start()
    library = types.ModuleType("panelworks")
    library.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["panelworks"] = library
    sys.path[:] = start["path"]
    write_message(replies, encode_message({"kind": "ready"}))
    while (request := read_message(requests, sys.maxsize)) is not None:
        _limit_cpu(limits.seconds)
        try:
            _answer(replies, request, limits)
        except Exception as error:  # noqa: BLE001 - the parent interprets all errors of parsers
            reusable = not isinstance(error, MemoryError)
            report = {
                "kind": "error",
                "type": type(error).__name__,
                "code": getattr(error, "code", ""),
                "message": str(getattr(error, "message", "")),
                "module": error.name if isinstance(error, ModuleNotFoundError) else None,
                "trace": "".join(traceback.format_exception(error)[-3:])[-2000:],
                "reusable": reusable,
            }
            write_message(replies, encode_message(report))
            if not reusable:
                return


def _answer(replies: IO[bytes], request: dict[str, Any], limits: Limits) -> None:
    module, _, name = request["function"].partition(":")
    result = getattr(importlib.import_module(module), name)(*request["value"])
    if not isgenerator(result):
        write_message(replies, encode_message({"kind": "value"}, result))
        return
    for item in result:
        write_message(replies, encode_message({"kind": "item"}, item))
        _limit_cpu(limits.seconds)
    write_message(replies, encode_message({"kind": "end"}))


def _limit_resources(limits: Limits) -> None:
    """Limit memory, files and core dumps, as far as the system supports it. The parent also monitors memory."""
    if sys.platform == "win32":
        return
    import resource

    reserve = limits.memory_bytes + _ADDRESS_RESERVE_BYTES
    for kind, most in (
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_AS, reserve),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def _limit_cpu(seconds: float) -> None:
    """Allow `seconds` of CPU time from now on. The parent limits wall-clock time; this limit works without a parent."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _exit_with_parent(parent: int) -> None:
    """End this process when its parent has ended, even while a parser runs. On Windows, the end of the input ends it."""
    while os.getppid() == parent or sys.platform == "win32":
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
