"""Running third-party parsers of untrusted files in a child process, with limits on time, memory and output.

    with Sandbox(Limits(seconds=30, memory_bytes=1_500_000_000, output_bytes=64 << 20)) as sandbox:
        pages = sandbox.call("panelworks.archives.parsers.pdf:count_pages", "/books/one.pdf")

`panelworks.archives.sandbox_child` is the program of the child.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any, Final, Self

from panelworks.archives import sandbox_child
from panelworks.archives.sandbox_child import (
    Limits,
    TooMuchOutput,
    encode_message,
    read_message,
    write_message,
)

logger = logging.getLogger(__name__)

TOO_COSTLY: Final = "document_too_costly"
"""Code of an input that exceeds a limit."""
CRASHED: Final = "parser_crashed"
"""Code of an input whose parser ended by a signal: a fault of the parser, or memory it could not get."""
FATAL: Final = frozenset({TOO_COSTLY, CRASHED})
"""Codes of inputs that ended their child process."""

_START_SECONDS: Final = 60.0
"""Longest time until a new child answers, also on a machine under load."""
_CLOSE_SECONDS: Final = 2.0
_WATCH_INTERVAL_SECONDS: Final = 0.1
_PIPE_BYTES: Final = 1 << 20
_SET_PIPE_SIZE: Final = 1031
"""F_SETPIPE_SZ of Linux; the module fcntl names it from Python 3.10 on only where the C library does."""
_NEAR_MEMORY: Final = 0.7
"""A crash at this share of the memory limit counts as exceeding it."""
_MAX_CALLS: Final = 1000
"""Calls after which a child is replaced: a parser may leak memory."""


class Sandbox:
    """A child process that runs functions by name. The first call starts it; a killed child is replaced.

    Calls of several threads run one after the other. Arguments and results are None, bool, int, float, str, bytes, and
    lists and dicts (with str keys) of these; tuples arrive as lists.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.kills = 0
        """Children that were killed by a limit or crashed."""
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def call(self, function: str, *arguments: Any) -> Any:
        """Run `module:function` in the child and return its result.

        Raises:
            PanelworksError: the error that the function raised.
            Rejected: `document_too_costly`, a limit was exceeded; `parser_crashed`; `damaged`, the function raised
                any other error.
        """
        with self._lock:
            child = self._running_child()
            try:
                with self._count_kills(child):
                    child.send(function, arguments)
                    return child.receive()["value"]
            finally:
                if not child.usable:
                    self._drop()

    def stream(self, function: str, *arguments: Any) -> Generator[Any, None, None]:
        """Yield the items of the generator `module:function`, which runs in a separate child.

        The child waits until the next item is requested. The limits apply to each item. Raises the same errors as `call`.
        """
        child = _Child(self.limits)
        try:
            with self._count_kills(child):
                child.send(function, arguments)
                while (reply := child.receive())["kind"] == "item":
                    yield reply["value"]
        finally:
            child.kill()

    def close(self) -> None:
        """Stop the child. A later call starts a new one."""
        with self._lock:
            self._drop()

    def _running_child(self) -> "_Child":
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
    def _count_kills(self, child: "_Child") -> Iterator[None]:
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
    """Sandboxes with running children for the next calls. Calls of several threads run in parallel."""

    def __init__(self, limits: Limits, max_idle: int = 2) -> None:
        self.limits = limits
        self._max_idle = max_idle
        self._idle: list[Sandbox] = []
        self._lock = threading.Lock()

    def call(self, function: str, *arguments: Any) -> Any:
        """Run `Sandbox.call` in an idle sandbox or a new one."""
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
        """Stop the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for sandbox in idle:
            sandbox.close()


class _Child:
    """A child process and its pipes."""

    def __init__(self, limits: Limits) -> None:
        from panelworks.errors import PanelworksError
        from panelworks.settings import child_variables

        self.limits, self.owner, self.calls = limits, os.getpid(), 0
        self.usable, self.failed = True, False
        self._exceeded: str | None = None
        self._seen_bytes = 0
        start = json.dumps({"parent": os.getpid(), "path": sys.path, "limits": asdict(limits)})
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter and the file are fixed
                [sys.executable, "-I", "-B", sandbox_child.__file__, start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=child_variables(),
            )
        except OSError as error:
            raise _not_started(error) from error
        self._requests, self._replies = (
            _require_pipe(self._process.stdin),
            _require_pipe(self._process.stdout),
        )
        _enlarge_pipe(self._requests)
        _enlarge_pipe(self._replies)
        try:
            self._receive(_START_SECONDS)
        except PanelworksError as error:
            raise _not_started(error) from error

    def send(self, function: str, arguments: tuple[Any, ...]) -> None:
        """Send a request to the child."""
        self.calls += 1
        message = encode_message({"function": function}, arguments)
        with self._watched(self.limits.seconds):
            write_message(self._requests, message)

    def receive(self) -> dict[str, Any]:
        """Wait for the next reply.

        Raises:
            PanelworksError: the same errors as `Sandbox.call`.
        """
        return self._receive(self.limits.seconds)

    def _receive(self, seconds: float) -> dict[str, Any]:
        with self._watched(seconds):
            reply = read_message(self._replies, self.limits.output_bytes)
            if reply is None:
                raise EOFError
        if reply["kind"] == "error":
            self.usable = reply["reusable"]
            raise _error_of(reply, self.limits)
        return reply

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Kill the child when a limit is exceeded during the block, and raise the error that describes the cause."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done, seconds), name="sandbox", daemon=True)
        watcher.start()
        try:
            yield
        except TooMuchOutput:
            self._exceeded = f"its result is larger than {_size(self.limits.output_bytes)}"
            raise self._failure() from None
        except TimeoutError:  # the timeout of a task; it is a subclass of OSError
            self.kill()
            raise
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            raise self._failure() from None
        except BaseException:  # an interrupt or the timeout of a task: the next call would read this reply
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
        """End the child, and return the error that describes why it sent no reply."""
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
            self._exceeded = _memory_sentence(self.limits)  # a library could not allocate memory and stopped
        if self._exceeded is None and sys.platform != "win32" and code == -signal.SIGKILL:
            self._exceeded = "the system stopped its parser, probably because memory was low"
        if self._exceeded is not None:
            return Rejected(TOO_COSTLY, f"The {self.limits.subject} was not read: {self._exceeded}.")
        how = signal.Signals(-code).name if code < 0 and -code in set(signal.Signals) else f"exit code {code}"
        return Rejected(
            CRASHED,
            f"The parser of the {self.limits.subject} crashed ({how}); it may have needed more than"
            f" {_size(self.limits.memory_bytes)} of memory.",
        )

    def close(self) -> None:
        """Close the input of the child, which then ends by itself, and wait for it."""
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


def _not_started(error: Exception) -> Exception:
    from panelworks.errors import Transient

    logger.warning("parser process did not start: %s", error)
    return Transient("sandbox_not_started", "The process that parses documents did not start.")


def _error_of(reply: dict[str, Any], limits: Limits) -> Exception:
    """The error for the report of a child."""
    from panelworks import errors

    kind = getattr(errors, reply["type"], None)
    if isinstance(kind, type) and issubclass(kind, errors.PanelworksError):
        return kind(reply["code"], reply["message"])
    if (missing := errors.missing_extra_error(reply["module"])) is not None:
        return missing
    if reply["type"] == "MemoryError":
        return errors.Rejected(TOO_COSTLY, f"The {limits.subject} was not read: {_memory_sentence(limits)}.")
    logger.info("parser failed: %s", reply["trace"])
    return errors.Rejected(
        "damaged", f"The {limits.subject} is damaged; its parser failed ({reply['type']})."
    )


def _memory_sentence(limits: Limits) -> str:
    return f"it needs more than {_size(limits.memory_bytes)} of memory"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _resident_bytes(process: int) -> int:
    """Resident memory of a process; 0 if it has ended."""
    import psutil

    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0


def _require_pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the process was started without a pipe")
    return pipe


def _enlarge_pipe(pipe: IO[bytes]) -> None:
    """Enlarge the buffer, to reduce context switches. Only Linux supports this, and may refuse it."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(pipe.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)
