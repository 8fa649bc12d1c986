"""Warm children and the runs in them: one child a slot, replaced in the background when it leaves."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

import anyio

logger = logging.getLogger(__name__)

READY_SECONDS: Final = 120.0
"""A child that is not ready by then is given up."""
LEAVE_SECONDS: Final = 10.0
"""For what a child still has to send when it leaves."""
_LAST_WORDS: Final = 0.5
_LONGEST_PAUSE: Final = 30.0


class RunInChild:
    """One run in a child, in the shape of the process that Prefect's `ProcessHandle` expects."""

    def __init__(self, child: "Child") -> None:
        self.child = child
        self.returncode: int | None = None
        self.ended = anyio.Event()

    @property
    def pid(self) -> int:
        return self.child.pid

    def end(self, code: int) -> None:
        """Note how the run ended; what comes later does not count."""
        if self.returncode is None:
            self.returncode = code
            self.ended.set()


class RunScope:
    """Ends the run and not its child: it lives while the run is in flight, so that no late signal meets the next one."""

    wait_after_graceful_kill = True

    def __init__(self, run: RunInChild) -> None:
        self._run = run

    def is_alive(self, pid: int) -> bool:
        del pid
        return self._run.returncode is None

    def graceful_kill(self, pid: int) -> None:
        if self.is_alive(pid):
            os.kill(pid, signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        if self.is_alive(pid):
            os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        """Nothing is held."""


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
        """Give it a run."""
        self.writer.write(json.dumps(order).encode() + b"\n")

    def retire(self) -> None:
        """Let it leave once it is idle: it reads the end of the file."""
        self.writer.close()

    def kill(self) -> None:
        """End it, and what it started, now."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def end(self, *, politely: bool) -> None:
        """End it with its run; returns when nothing of them is left. Politely, they may clean up."""
        if politely:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            self.retire()
            with anyio.move_on_after(LEAVE_SECONDS):
                await self.process.wait()
        self.kill()
        await self.process.wait()

    async def listen(self) -> None:
        """Take what it says, until its end."""
        with suppress(OSError):
            while line := await self.reader.readline():
                said = json.loads(line)
                if "ready" in said:
                    self.ready.set()
                elif self.run is not None:
                    self.run.end(int(said["code"]))


@dataclass(frozen=True)
class PoolLimits:
    """How many children there are, and when they leave."""

    slots: int
    runs_per_child: int = 0
    """After so many runs a child is replaced, for what leaked in it; 0: never."""
    idle_seconds: float = 900.0
    """A child that has loaded something and is idle for as long is replaced, which frees its memory, the GPU's too."""


class WarmPool:
    """Children, one a slot."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._changed = asyncio.Condition()
        self._seen: dict[datetime, datetime] = {}
        self._closing = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        """Keep the slots filled for a block; then let the children leave."""
        async with anyio.create_task_group() as group:
            for _ in range(self._limits.slots):
                group.start_soon(self._keep_slot)
            group.start_soon(self._unload_idle)
            try:
                yield self
            finally:
                self.close()
                for child in self._children:
                    child.retire()
                with anyio.move_on_after(LEAVE_SECONDS, shield=True):
                    while self._children:  # noqa: ASYNC110 - each leaves by itself
                        await anyio.sleep(0.05)
                for child in self._children:
                    child.kill()
                group.cancel_scope.cancel()

    async def take(self, deployment: str, updated: datetime | None) -> Child:
        """An idle child, preferably one that has loaded the deployment.

        One that was born before the deployment's last update leaves: modules are not loaded anew.
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
        """Take a child back after its run."""
        run, child.run = child.run, None
        child.runs += 1
        child.used = time.monotonic()
        if run is not None and run.returncode is None:
            child.kill()  # the worker is being ended: nobody looks after this run any more
        elif 0 < self._limits.runs_per_child <= child.runs or self._closing:
            child.retire()
        elif child in self._children:
            await self._offer(child)

    def close(self) -> None:
        """Replace no child any more: the worker leaves."""
        self._closing = True

    def _is_stale(self, child: Child, updated: datetime | None) -> bool:
        # The server's clock may be ahead of ours: a child that was born after we saw the update is new enough.
        if updated is None:
            return False
        return child.born < min(updated, self._seen.setdefault(updated, datetime.now(UTC)))

    async def _unload_idle(self) -> None:
        every = min(self._limits.idle_seconds / 4, 30)
        while True:
            await anyio.sleep(every)
            for child in list(self._idle):
                if child.loaded and time.monotonic() - child.used > self._limits.idle_seconds:
                    self._idle.remove(child)
                    child.retire()

    async def _keep_slot(self) -> None:
        pause = 0.0
        while not self._closing:
            await anyio.sleep(pause)
            child = await _spawn()
            self._children.add(child)
            code = await self._accompany(child)
            self._children.discard(child)
            if child in self._idle:
                self._idle.remove(child)
            child.writer.close()
            if child.run is not None:
                child.run.end(code or 1)
            # One that cannot even start is tried again more and more slowly.
            pause = 0.0 if child.ready.is_set() else min(_LONGEST_PAUSE, 2 * pause + 1)

    async def _accompany(self, child: Child) -> int:
        """Be with a child until its end; gives its exit code. A grandchild may hold the pipe open for longer."""
        async with anyio.create_task_group() as group:
            group.start_soon(child.listen)
            group.start_soon(self._offer_when_ready, child)
            code = await child.process.wait()
            with anyio.move_on_after(_LAST_WORDS):
                while not child.reader.at_eof():  # noqa: ASYNC110 - the stream has no event for it
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        return code

    async def _offer_when_ready(self, child: Child) -> None:
        with anyio.move_on_after(READY_SECONDS):
            await child.ready.wait()
            await self._offer(child)
            return
        logger.warning("A warm child was not ready after %.0f s and is replaced.", READY_SECONDS)
        child.kill()

    async def _offer(self, child: Child) -> None:
        async with self._changed:
            self._idle.append(child)
            self._changed.notify_all()


async def _spawn() -> Child:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "deployments.warm.child", str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is for the worker
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    return Child(process, reader, writer)
