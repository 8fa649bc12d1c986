"""Atomic writes to a local disk, and the removal of what dead writers left.

A file is written under a hidden name beside its place, synced, and renamed. The hidden name identifies the
writing process, so that a sweep can tell the temporary file of a dead writer from that of a living one.
"""

import hashlib
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

import psutil

TEMPORARY_PREFIX: Final = ".panelworks-"
"""Start of the names under which files and folders are written before they are published."""
FOREIGN_SECONDS: Final = 24 * 3600
"""Age from which a temporary file of another machine, container or boot counts as abandoned: whether its
writer lives cannot be seen from here, and no write takes this long."""


@contextmanager
def writing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Give the temporary path of a file; publish it as `path` at the end of the block.

    The block creates the file and closes it. The data is synced before the rename. After an error nothing is left.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    try:
        yield temporary
        publish(temporary, path, mode)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Publish `data` as `path`, replacing what is there.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    with writing(path, mode) as temporary:
        temporary.write_bytes(data)


def publish(temporary: Path, path: Path, mode: int = 0o644) -> None:
    """Sync a finished file and give it its name, replacing what has it.

    Raises:
        OSError: the disk failed.
    """
    _sync(temporary)
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def resumable_name(name: str) -> str:
    """A hidden name for an unfinished file that any process may continue; it is abandoned once it is old."""
    return f"{TEMPORARY_PREFIX}{name}"


def temporary_name() -> str:
    """A hidden name for a file or folder of this process: host, machine, process, its start, and a random part."""
    pid = os.getpid()
    return f"{TEMPORARY_PREFIX}{_host()}~{_machine()}~{pid}~{_start_of(pid)}~{uuid.uuid4().hex[:12]}"


def is_temporary(name: str) -> bool:
    """Is this the name of a file that is not published yet?"""
    return name.startswith(TEMPORARY_PREFIX)


def sweep(root: Path, *, deep: bool = True) -> int:
    """Remove the temporary files and folders of dead writers under `root`; returns how many.

    Args:
        root: A folder; it may be missing.
        deep: Look into its subfolders as well.
    """
    removed, folders = 0, [str(root)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if is_temporary(entry.name):
                    if _is_abandoned(entry):
                        _remove(entry)
                        removed += 1
                elif deep and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return removed


def _is_abandoned(entry: "os.DirEntry[str]") -> bool:
    parts = entry.name.removeprefix(TEMPORARY_PREFIX).split("~")
    if len(parts) == 5 and parts[:2] == [_host(), _machine()] and parts[2].isdecimal():
        return not _lives(int(parts[2]), parts[3])
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > FOREIGN_SECONDS
    except OSError:
        return False  # it was published or removed meanwhile


def _remove(entry: "os.DirEntry[str]") -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        with suppress(OSError):
            Path(entry.path).unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _host() -> str:
    return socket.gethostname().replace("~", "-").replace("/", "-")


@cache
def _machine() -> str:
    """What gives process numbers their meaning: this boot of this kernel, and the namespace of processes.

    Containers may share a host name and a volume, and a host name survives a reboot.
    """
    boot, namespace = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:8]


def _lives(pid: int, start: str) -> bool:
    """Is there still the process with this number that started then? One that hides from us counts as living."""
    found = _start_of(pid)
    if found is not None:
        return found == start
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False  # ours, and a zombie


def _start_of(pid: int) -> str | None:
    """When a process started, as a text that a process with the same number later cannot have; None for no process.

    Ticks since the boot where the system tells them: they do not move when somebody sets the clock.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.Error:
        return None
