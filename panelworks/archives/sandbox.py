"""Third-party parsers of untrusted files run in a child process, with limits on time, memory and output.

    with Sandbox(Limits(seconds=30, memory_bytes=1_500_000_000, output_bytes=64 << 20)) as sandbox:
        pages = sandbox.call("panelworks.archives.parsers.pdf:count_pages", "/books/one.pdf")

This file is also the program of the child. The child runs it by path and installs an empty package `panelworks`, so
that a module of the library is imported without the package's own imports (1 s): a function that runs in a child
belongs in a module that imports little. Requests and replies are JSON with separate bytes; nothing is unpickled, since
a parser that was taken over must not take over the parent.
"""

import importlib
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import types
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from inspect import isgenerator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

logger = logging.getLogger(__name__)

TOO_COSTLY: Final = "document_too_costly"
"""Code of an input that exceeds a limit."""
CRASHED: Final = "parser_crashed"
"""Code of an input whose parser ended by a signal: a fault of the parser, or memory it could not get."""
FATAL: Final = frozenset({TOO_COSTLY, CRASHED})
"""Codes of inputs that ended their child process."""

_LENGTH: Final = struct.Struct("!I")
_MAX_HEADER_BYTES: Final = 64 << 20
_START_SECONDS: Final = 60.0
"""Longest time until a new child answers, also on a machine under load."""
_CLOSE_SECONDS: Final = 2.0
_WATCH_INTERVAL_SECONDS: Final = 0.1
_ADDRESS_RESERVE_BYTES: Final = 1 << 30
"""Address space beside the memory limit: libraries, and what allocators reserve without using it."""
_PIPE_BYTES: Final = 1 << 20
_SET_PIPE_SIZE: Final = 1031
"""F_SETPIPE_SZ of Linux; the module fcntl names it from Python 3.10 on only where the C library does."""
_NEAR_MEMORY: Final = 0.7
"""Share of the memory limit from which a crash is put down to memory."""
_MAX_CALLS: Final = 1000
"""Calls after which a child is replaced: a parser may lose a little memory with each."""


@dataclass(frozen=True)
class Limits:
    """What one call may use."""

    seconds: float
    """Wall time, and CPU time as well, of one call or of one item of a stream."""
    memory_bytes: int
    """Memory of the child in all, its interpreter included (about 40 MB)."""
    output_bytes: int
    """Size of one reply."""


class Sandbox:
    """A child process that runs named functions; it is started with the first call and replaced when it was killed.

    Calls of several threads wait for each other. Arguments and results are None, bool, int, float, str, bytes, and
    lists and dicts (with str keys) of these; tuples arrive as lists.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.kills = 0
        """Children that were killed by a limit or crashed."""
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def call(self, function: str, *arguments: Any) -> Any:
        """The result of `module:function`, computed in the child.

        Raises:
            PanelworksError: as the function raised it.
            Rejected: `document_too_costly`, a limit was exceeded; `parser_crashed`; `damaged`, the function raised
                any other error.
        """
        with self._lock:
            child = self._running()
            try:
                with self._counting_kills(child):
                    child.send(function, arguments)
                    return child.receive()["value"]
            finally:
                if not child.usable:
                    self._drop()

    def stream(self, function: str, *arguments: Any) -> Generator[Any, None, None]:
        """The items that the generator `module:function` yields, in a child of their own.

        The child waits while nobody asks for the next item; the limits hold for each item. Raises as `call` does.
        """
        child = _Child(self.limits)
        try:
            with self._counting_kills(child):
                child.send(function, arguments)
                while (reply := child.receive())["kind"] == "item":
                    yield reply["value"]
        finally:
            child.kill()

    def close(self) -> None:
        """End the child; a later call starts a new one."""
        with self._lock:
            self._drop()

    def _running(self) -> "_Child":
        if self._child is not None and (self._child.owner != os.getpid() or self._child.calls >= _MAX_CALLS):
            self._drop()
        if self._child is None:
            self._child = _Child(self.limits)
        return self._child

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    @contextmanager
    def _counting_kills(self, child: "_Child") -> Iterator[None]:
        try:
            yield
        finally:
            self.kills += child.failed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SandboxPool:
    """Sandboxes that are kept for the next call, so that it does not wait for a new child. Threads do not wait."""

    def __init__(self, limits: Limits, max_idle: int = 2) -> None:
        self.limits = limits
        self._max_idle = max_idle
        self._idle: list[Sandbox] = []
        self._lock = threading.Lock()

    def call(self, function: str, *arguments: Any) -> Any:
        """As `Sandbox.call`."""
        with self._lock:
            sandbox = self._idle.pop() if self._idle else Sandbox(self.limits)
        try:
            return sandbox.call(function, *arguments)
        finally:
            with self._lock:
                kept = len(self._idle) < self._max_idle
                if kept:
                    self._idle.append(sandbox)
            if not kept:
                sandbox.close()

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for sandbox in idle:
            sandbox.close()


class _Child:
    """One process."""

    def __init__(self, limits: Limits) -> None:
        from panelworks.errors import PanelworksError
        from panelworks.settings import child_variables

        self.limits, self.owner, self.calls = limits, os.getpid(), 0
        self.usable, self.failed = True, False
        self._exceeded: str | None = None
        self._seen_bytes = 0
        start = json.dumps({"parent": os.getpid(), "path": sys.path, "limits": asdict(limits)})
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
                [sys.executable, "-I", "-B", __file__, start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_variables(),
            )
        except OSError as error:
            raise _not_started(error) from error
        self._requests, self._replies = _piped(self._process.stdin), _piped(self._process.stdout)
        _enlarge_pipe(self._requests)
        _enlarge_pipe(self._replies)
        try:
            self._receive(_START_SECONDS)
        except PanelworksError as error:
            raise _not_started(error) from error

    def send(self, function: str, arguments: tuple[Any, ...]) -> None:
        """Send a request; it is read by the child while `receive` waits for the reply, or at once."""
        self.calls += 1
        message = _message({"function": function}, arguments)
        with self._watched(self.limits.seconds):
            _write(self._requests, message)

    def receive(self) -> dict[str, Any]:
        """The next reply.

        Raises:
            PanelworksError: as Sandbox.call says.
        """
        return self._receive(self.limits.seconds)

    def _receive(self, seconds: float) -> dict[str, Any]:
        with self._watched(seconds):
            reply = _read(self._replies, self.limits.output_bytes)
            if reply is None:
                raise EOFError
        if reply["kind"] == "error":
            self.usable = reply["reusable"]
            raise _error_of(reply, self.limits)
        return reply

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Kill the child when a limit is exceeded inside the block; explain whatever ended it."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done, seconds), name="sandbox", daemon=True)
        watcher.start()
        try:
            yield
        except _TooMuchOutput:
            self._exceeded = f"its result is larger than {_size(self.limits.output_bytes)}"
            raise self._failure() from None
        except TimeoutError:  # the timeout of a task; it is an OSError as well
            self.kill()
            raise
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            raise self._failure() from None
        except (
            BaseException
        ):  # an interrupt, or the timeout of a task: the reply would be read by the next call
            self.kill()
            raise
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done.wait(min(_WATCH_INTERVAL_SECONDS, max(0.0, deadline - time.monotonic()))):
            self._seen_bytes = max(self._seen_bytes, _resident_bytes(self._process.pid))
            if time.monotonic() >= deadline:
                self._exceeded = f"it takes longer than {seconds:g} seconds"
            elif self._seen_bytes > self.limits.memory_bytes:
                self._exceeded = _memory_sentence(self.limits)
            else:
                continue
            self._process.kill()
            return

    def _failure(self) -> Exception:
        """Why the child gives no reply. It has ended after this."""
        from panelworks.errors import Rejected

        self.usable, self.failed = False, True
        if self._exceeded is not None:
            self.kill()
        else:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_SECONDS)
            self.kill()
        code = self._process.returncode
        if self._exceeded is None and sys.platform != "win32" and code == -signal.SIGXCPU:
            self._exceeded = f"it takes longer than {self.limits.seconds:g} seconds"
        if self._exceeded is None and self._seen_bytes > _NEAR_MEMORY * self.limits.memory_bytes:
            self._exceeded = _memory_sentence(self.limits)  # a library that got no more memory gave up
        if self._exceeded is None and sys.platform != "win32" and code == -signal.SIGKILL:
            self._exceeded = "the system stopped its parser, probably for want of memory"
        if self._exceeded is not None:
            return Rejected(TOO_COSTLY, f"The document was not read: {self._exceeded}.")
        how = signal.Signals(-code).name if code < 0 and -code in set(signal.Signals) else f"exit code {code}"
        return Rejected(
            CRASHED,
            f"The parser of the document crashed ({how}); it may have needed more than"
            f" {_size(self.limits.memory_bytes)} of memory.",
        )

    def close(self) -> None:
        """End the child in peace: it leaves when its input ends."""
        if self.owner == os.getpid():
            with suppress(OSError):
                self._requests.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        self.usable = False
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
        for pipe in (self._requests, self._replies):
            with suppress(OSError):
                pipe.close()


class _TooMuchOutput(Exception):
    """A reply is larger than the limit."""


def _not_started(error: Exception) -> Exception:
    from panelworks.errors import Transient

    logger.warning("A parser process did not start: %s", error)
    return Transient("sandbox_not_started", "The process that parses documents did not start.")


def _error_of(reply: dict[str, Any], limits: Limits) -> Exception:
    """The error that the child reports."""
    from panelworks import errors

    kind = getattr(errors, reply["type"], None)
    if isinstance(kind, type) and issubclass(kind, errors.PanelworksError):
        return kind(reply["code"], reply["message"])
    if (missing := errors.missing_extra_error(reply["module"])) is not None:
        return missing
    if reply["type"] == "MemoryError":
        return errors.Rejected(TOO_COSTLY, f"The document was not read: {_memory_sentence(limits)}.")
    logger.info("A parser failed: %s", reply["trace"])
    return errors.Rejected("damaged", f"The document is damaged; its parser failed ({reply['type']}).")


def _memory_sentence(limits: Limits) -> str:
    return f"it needs more than {_size(limits.memory_bytes)} of memory"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _resident_bytes(process: int) -> int:
    """Memory that a process occupies; 0 when it has ended."""
    import psutil

    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0


def _piped(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the process was started without a pipe")
    return pipe


def _enlarge_pipe(pipe: IO[bytes]) -> None:
    """Fewer changes between the processes with each megabyte; only Linux can, and may refuse."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(pipe.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)


def _message(head: dict[str, Any], value: Any = None) -> list[bytes]:
    """The length of the header, the header in JSON, and the bytes that the header counts."""
    blobs: list[bytes] = []
    encoded = _encoded(value, blobs)
    header = json.dumps({**head, "value": encoded, "blobs": [len(blob) for blob in blobs]}).encode()
    return [_LENGTH.pack(len(header)), header, *blobs]


def _write(pipe: IO[bytes], message: list[bytes]) -> None:
    for part in message:
        pipe.write(part)
    pipe.flush()


def _read(pipe: IO[bytes], at_most: int) -> dict[str, Any] | None:
    """The next message; None at the end."""
    start = pipe.read(_LENGTH.size)
    if not start:
        return None
    (length,) = _LENGTH.unpack(start)
    if length > min(_MAX_HEADER_BYTES, max(at_most, 1 << 16)):
        raise _TooMuchOutput
    message: dict[str, Any] = json.loads(_exactly(pipe, length))
    sizes = [int(size) for size in message["blobs"]]
    if min(sizes, default=0) < 0 or sum(sizes) > at_most:
        raise _TooMuchOutput
    message["value"] = _decoded(message["value"], [_exactly(pipe, size) for size in sizes])
    return message


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _encoded(value: Any, blobs: list[bytes]) -> Any:
    """The value for JSON: bytes become `{"bytes": number}`, other dicts `{"dict": ...}`."""
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
    """The child: answer requests until there are no more."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    limits = Limits(**start["limits"])
    _limit_resources(limits)
    threading.Thread(target=_leave_with, args=(start["parent"],), daemon=True).start()
    library = types.ModuleType("panelworks")
    library.__path__ = [str(Path(__file__).parent.parent)]
    sys.modules["panelworks"] = library
    sys.path[:] = start["path"]
    _write(replies, _message({"kind": "ready"}))
    while (request := _read(requests, sys.maxsize)) is not None:
        _limit_cpu(limits.seconds)
        try:
            _answer(replies, request, limits)
        except Exception as error:  # noqa: BLE001 - the parent decides what an error of a parser means
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
            _write(replies, _message(report))
            if not reusable:
                return


def _answer(replies: IO[bytes], request: dict[str, Any], limits: Limits) -> None:
    module, _, name = request["function"].partition(":")
    result = getattr(importlib.import_module(module), name)(*request["value"])
    if not isgenerator(result):
        _write(replies, _message({"kind": "value"}, result))
        return
    for item in result:
        _write(replies, _message({"kind": "item"}, item))
        _limit_cpu(limits.seconds)
    _write(replies, _message({"kind": "end"}))


def _limit_resources(limits: Limits) -> None:
    """Memory, files and core dumps; what a system does not know is left out. The parent watches memory as well."""
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
    """Allow `seconds` of CPU time from now on. The parent limits wall time; this works without a parent."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _leave_with(parent: int) -> None:
    """End this process when its parent has ended, also while a parser works. On Windows the end of the input does it."""
    while os.getppid() == parent or sys.platform == "win32":
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
