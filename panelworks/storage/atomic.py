"""Atomic writes to a local disk, and the removal of temporary files of processes that ended.

A file is written under a hidden name in its folder, synced, and renamed. The hidden name identifies the writing
process, so that `sweep` can distinguish the temporary files of ended processes from those of running ones.
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
"""Age from which a temporary file of another machine, container or boot counts as abandoned. Whether its writer still
runs is unknown on this machine, and no write takes this long."""


@contextmanager
def writing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """Provide a temporary path for a block, and publish the file as `path` at the end of the block.

    The block creates the file and closes it. The data is synced before the rename. After an error the file is removed.

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
    """Publish `data` as `path`, replacing an existing file.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    with writing(path, mode) as temporary:
        temporary.write_bytes(data)


def publish(temporary: Path, path: Path, mode: int = 0o644) -> None:
    """Sync a finished file and rename it to `path`, replacing an existing file.

    Raises:
        OSError: the disk failed.
    """
    _sync(temporary)
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def resumable_name(name: str) -> str:
    """A hidden name for an unfinished file that any process may continue. `sweep` removes it when it is old."""
    return f"{TEMPORARY_PREFIX}{name}"


def temporary_name() -> str:
    """A hidden name for a file or folder of this process: host, machine, process, its start, and a random part."""
    pid = os.getpid()
    return f"{TEMPORARY_PREFIX}{_host()}~{_process_space()}~{pid}~{_start_of(pid)}~{uuid.uuid4().hex[:12]}"


def is_temporary(name: str) -> bool:
    """Is this the name of an unpublished file?"""
    return name.startswith(TEMPORARY_PREFIX)


def sweep(root: Path, *, deep: bool = True) -> int:
    """Remove the temporary files and folders of ended processes under `root`; returns their number.

    Args:
        root: A folder. It does not have to exist.
        deep: Include its subfolders.
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
    if len(parts) == 5 and parts[:2] == [_host(), _process_space()] and parts[2].isdecimal():
        return not _is_running(int(parts[2]), parts[3])
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > FOREIGN_SECONDS
    except OSError:
        return False  # it was published or removed in the meantime


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
def _process_space() -> str:
    """Identity of the space of process numbers: this boot of this kernel, and the namespace of processes.

    Containers may share a host name and a volume, and a host name survives a reboot.
    """
    boot, namespace = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:8]


def _is_running(pid: int, start: str) -> bool:
    """Is the process with this number and start still running? A process that is not visible counts as running."""
    found = _start_of(pid)
    if found is not None:
        return found == start
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False  # a zombie of this user


def _start_of(pid: int) -> str | None:
    """When a process started, as text that no later process with the same number has; None if it does not run.

    Ticks since the boot where the system provides them: changes of the clock do not affect them.
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
