"""Parts of the stack: processes that are started, watched, started again and stopped by their own pid."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

_GENTLE_SECONDS: Final = 20
_FIRM_SECONDS: Final = 5
_PRIVATE: Final = 0o600
"""Mode of logs: they name pages, and where they lie."""


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
        """`folder` holds the logs; `user` runs it instead of root, in the root folder."""
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = list(command)
        self._environment = environment
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C in the terminal is ours to pass on."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.log, "ab", opener=_open_private) as log:
            os.fchmod(log.fileno(), _PRIVATE)  # one of an earlier release is open to others
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

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-15:])

    def stop(self) -> None:
        """Ask it to stop, then make it, and whatever it started."""
        if self._process is None:
            return
        family = _family(self._process.pid)
        if self.running:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_GENTLE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.terminate()
        left = [process for process in family if process.is_running()]
        for process in left:
            _send(process, signal.SIGTERM)
        _, stubborn = psutil.wait_procs(left, timeout=_FIRM_SECONDS)
        for process in stubborn:
            _send(process, signal.SIGKILL)
        self._process.wait()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)


def _family(pid: int) -> list[psutil.Process]:
    """A process and all that came from it, also those in sessions of their own."""
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
    """Starts a part again when it dies, more and more slowly."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._again_at = 0.0

    def look(self) -> str | None:
        """Start the part again if it is time to; returns what there is to say."""
        if self.part.running:
            return None
        now = time.monotonic()
        if not self._again_at:
            self._again_at = now + min(2 ** (self.part.starts - 1), 30)
            return f"The {self.part.name} died; it is started again. Its log: {self.part.log}"
        if now >= self._again_at:
            self._again_at = 0.0
            self.part.start()
        return None
