"""Parts of the stack: processes that are started, watched, restarted and stopped by their pid."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

_SIGINT_SECONDS: Final = 20
_SIGTERM_SECONDS: Final = 5
_LOG_MODE: Final = 0o600
"""Logs name pages and their places."""


class Part:
    """One process with its log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        folder: Path,
        user: str | None = None,
    ) -> None:
        """`folder` holds the logs; `user` runs it instead of root, with `/` as its working folder."""
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = list(command)
        self._environment = environment
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it in a session of its own: a Ctrl-C in the terminal reaches only this process, which stops the parts."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.log, "ab", opener=_open_private) as log:
            os.fchmod(log.fileno(), _LOG_MODE)  # a log of an earlier release may be readable by others
            self._process = subprocess.Popen(  # noqa: S603 - our own command lines
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd="/" if self._user else None,
            )
        self.starts += 1

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def read_log_end(self) -> str:
        """The last 15 lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-15:])

    def stop(self) -> None:
        """Stop it and all processes that it started: by SIGINT, then SIGTERM, then SIGKILL."""
        if self._process is None:
            return
        processes = _with_descendants(self._process.pid)
        if self.running:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_SIGINT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.terminate()
        remaining = [process for process in processes if process.is_running()]
        for process in remaining:
            _send(process, signal.SIGTERM)
        _, alive = psutil.wait_procs(remaining, timeout=_SIGTERM_SECONDS)
        for process in alive:
            _send(process, signal.SIGKILL)
        self._process.wait()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, _LOG_MODE)


def _with_descendants(pid: int) -> list[psutil.Process]:
    """A process and its descendants, also those in sessions of their own."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


class Watch:
    """Restarts a part that died, with growing delays."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._restart_at = 0.0

    def check(self) -> str | None:
        """Restart a dead part when its delay is over; returns a message when it was found dead."""
        if self.part.running:
            return None
        now = time.monotonic()
        if not self._restart_at:
            self._restart_at = now + min(2 ** (self.part.starts - 1), 30)
            return f"The {self.part.name} died and is restarted. Its log: {self.part.log}"
        if now >= self._restart_at:
            self._restart_at = 0.0
            self.part.start()
        return None
