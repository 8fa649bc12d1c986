"""The pool of warm processes: one child per slot, replaced in the background when it leaves."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import anyio
import certifi

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 120.0
"""A child that is not ready after this time is replaced."""
LEAVE_SECONDS: Final = 10.0
"""Time for a leaving child to send its logs and events."""
LAST_MESSAGE_SECONDS: Final = 0.5
"""Time to read what a child sent before it ended."""
MAX_RESTART_PAUSE_SECONDS: Final = 30.0
CERTIFICATES_VARIABLE: Final = "PREFECT_API_SSL_CERT_FILE"
SYSTEM_CERTIFICATES_VARIABLE: Final = "SSL_CERT_FILE"
"""Where Prefect's setting is not set, it has the value of this variable."""
NO_AUTHORITY_FILE: Final = Path(__file__).with_name("no_authority.pem")
"""One certificate whose key was discarded: whoever trusts this file trusts no server."""


def certificates_environment(api_url: str | None, certificates_file: str | None) -> dict[str, str]:
    """Environment variables with which Prefect's clients of a worker and its children start sooner.

    Prefect creates an API client for each task and each request, some ten a page, and each client parses its file
    of trusted certificates: 15 ms for the usual 140 certificates, also if the API is called without TLS. Without
    TLS, the clients get a file with a single certificate.

    Args:
        api_url: Address of Prefect's API.
        certificates_file: The file in Prefect's settings. One that the operator chose there is not replaced; by
            default it is that of SSL_CERT_FILE.
    """
    without_tls = (api_url or "").startswith("http:")
    chosen = certificates_file not in (None, os.environ.get(SYSTEM_CERTIFICATES_VARIABLE))
    return {CERTIFICATES_VARIABLE: str(NO_AUTHORITY_FILE)} if without_tls and not chosen else {}


def restore_certificates(environment: MutableMapping[str, Any]) -> None:
    """Trust the usual certificates in the environment of a run that calls its API with TLS although the worker does not."""
    with_tls = str(environment.get("PREFECT_API_URL") or "").startswith("https:")
    if with_tls and environment.get(CERTIFICATES_VARIABLE) == str(NO_AUTHORITY_FILE):
        environment[CERTIFICATES_VARIABLE] = environment.get(SYSTEM_CERTIFICATES_VARIABLE) or certifi.where()


class RunInChild:
    """One run in a child, with the attributes of the process that Prefect's `ProcessHandle` expects."""

    def __init__(self, child: "Child") -> None:
        self.child = child
        self.returncode: int | None = None
        self.ended = anyio.Event()

    @property
    def pid(self) -> int:
        return self.child.pid

    def end(self, code: int) -> None:
        """Record the exit code of the run; later codes are ignored."""
        if self.returncode is None:
            self.returncode = code
            self.ended.set()


class RunScope:
    """Ends a run and not its child: Prefect's scope of a process, alive while the run is in flight.

    A late signal therefore never reaches the next run of the child.
    """

    wait_after_graceful_kill = True

    def __init__(self, run: RunInChild) -> None:
        self._run = run

    def is_alive(self, pid: int) -> bool:
        del pid
        return self._run.returncode is None

    def graceful_kill(self, pid: int) -> None:
        """Send SIGTERM.

        Raises:
            ProcessLookupError: the run has ended; Prefect then does not wait for it.
        """
        if not self.is_alive(pid):
            raise ProcessLookupError
        os.kill(pid, signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        """Send SIGKILL to the child and to the programs that it started."""
        if self.is_alive(pid):
            os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        """Release nothing: the pool owns the child."""


@dataclass(eq=False)
class Child:
    """A process that runs one flow run after the other."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    born: datetime = field(default_factory=lambda: datetime.now(UTC))
    loaded: set[str] = field(default_factory=set)
    """Deployments whose flow it has loaded."""
    runs: int = 0
    used: float = field(default_factory=time.monotonic)
    """When its last run ended."""
    run: RunInChild | None = None
    ready: anyio.Event = field(default_factory=anyio.Event)

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, order: dict[str, Any]) -> None:
        """Send it a run to execute."""
        self.writer.write(json.dumps(order).encode() + b"\n")

    def retire(self) -> None:
        """Let it leave once it is idle: it reads the end of the file."""
        self.writer.close()

    def kill(self) -> None:
        """Kill it and the programs that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def end(self, *, graceful: bool, leave_seconds: float = LEAVE_SECONDS) -> None:
        """End it with its run; returns when none of its processes is left. If graceful, they may clean up first."""
        if graceful:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            self.retire()
            with anyio.move_on_after(leave_seconds):
                await self.process.wait()
        self.kill()
        await self.process.wait()

    async def listen(self) -> None:
        """Read its messages until it ends."""
        with suppress(OSError):
            while line := await self.reader.readline():
                message = json.loads(line)
                if "ready" in message:
                    self.ready.set()
                elif self.run is not None:
                    self.run.end(int(message["code"]))


@dataclass(frozen=True)
class PoolLimits:
    """The number of children, and when they leave."""

    slots: int
    runs_per_child: int = 0
    """A child is replaced after so many runs, to free leaked memory; 0: never."""
    idle_seconds: float = 900.0
    """A child that has loaded a flow and is idle for as long is replaced, which frees its memory and the GPU's."""


class WarmPool:
    """Children, one per slot."""

    def __init__(self, limits: PoolLimits, environment: Mapping[str, str] | None = None) -> None:
        """Describe a pool.

        Args:
            limits: The number of children, and when they leave.
            environment: Variables of the children, besides those of this process.
        """
        self._limits = limits
        self._environment = dict(environment or {})
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._changed = asyncio.Condition()
        self._first_seen: dict[datetime, datetime] = {}
        self._closing = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Fill the slots for a block; then let the children leave."""
        async with anyio.create_task_group() as group:
            for _ in range(self._limits.slots):
                group.start_soon(self._fill_slot)
            group.start_soon(self._retire_idle)
            try:
                yield self
            finally:
                self.close()
                for child in self._children:
                    child.retire()
                with anyio.move_on_after(LEAVE_SECONDS, shield=True):
                    while self._children:  # noqa: ASYNC110 - `_fill_slot` removes each child that ended
                        await anyio.sleep(0.05)
                for child in self._children:
                    child.kill()
                group.cancel_scope.cancel()

    async def take(self, deployment: str, updated: datetime | None) -> Child:
        """Wait for an idle child, preferably one that has loaded the deployment.

        A child that started before the deployment's last update leaves: modules are not loaded again.
        """
        async with self._changed:
            while True:
                for child in [child for child in self._idle if self._is_stale(child, updated)]:
                    self._idle.remove(child)
                    child.retire()
                if self._idle:
                    best = max(self._idle, key=lambda child: (deployment in child.loaded, child.used))
                    self._idle.remove(best)
                    return best
                await self._changed.wait()

    async def give_back(self, child: Child) -> None:
        """Return a child after its run."""
        run, child.run = child.run, None
        child.runs += 1
        child.used = time.monotonic()
        if run is not None and run.returncode is None:
            child.kill()  # the worker is ending: nothing waits for this run
        elif 0 < self._limits.runs_per_child <= child.runs or self._closing:
            child.retire()
        elif child in self._children:
            await self._offer(child)

    def close(self) -> None:
        """Replace no more children: the worker is stopping."""
        self._closing = True

    def _is_stale(self, child: Child, updated: datetime | None) -> bool:
        # The server's clock may be ahead of ours: a child that started after we saw the update is new enough.
        if updated is None:
            return False
        return child.born < min(updated, self._first_seen.setdefault(updated, datetime.now(UTC)))

    async def _retire_idle(self) -> None:
        interval = min(self._limits.idle_seconds / 4, 30)
        while True:
            await anyio.sleep(interval)
            for child in list(self._idle):
                if child.loaded and time.monotonic() - child.used > self._limits.idle_seconds:
                    self._idle.remove(child)
                    child.retire()

    async def _fill_slot(self) -> None:
        pause = 0.0
        while not self._closing:
            await anyio.sleep(pause)
            child = await _spawn(self._environment)
            self._children.add(child)
            code = await self._serve_until_exit(child)
            self._children.discard(child)
            if child in self._idle:
                self._idle.remove(child)
            child.writer.close()
            if child.run is not None:
                child.run.end(code or 1)
            # A child that cannot start is tried again after longer and longer pauses.
            pause = 0.0 if child.ready.is_set() else min(MAX_RESTART_PAUSE_SECONDS, 2 * pause + 1)

    async def _serve_until_exit(self, child: Child) -> int:
        """Offer a child and read its messages until it ends; returns its exit code.

        A program that the child started may keep the socket open for longer.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(child.listen)
            group.start_soon(self._offer_when_ready, child)
            code = await child.process.wait()
            with anyio.move_on_after(LAST_MESSAGE_SECONDS):
                while not child.reader.at_eof():  # noqa: ASYNC110 - the stream has no event for it
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        return code

    async def _offer_when_ready(self, child: Child) -> None:
        with anyio.move_on_after(READY_SECONDS):
            await child.ready.wait()
            await self._offer(child)
            return
        logger.warning("warm process replaced: not ready after %.0f s", READY_SECONDS)
        child.kill()

    async def _offer(self, child: Child) -> None:
        async with self._changed:
            self._idle.append(child)
            self._changed.notify_all()


async def _spawn(environment: Mapping[str, str]) -> Child:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deployments.warm.child", str(theirs.fileno())),
            env={**os.environ, **environment},
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is for the worker
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    return Child(process, reader, writer)
