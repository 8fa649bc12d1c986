"""A folder on a local disk. Objects are published by an atomic rename."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from panelworks.errors import NOT_READABLE, Misconfigured, PanelworksError, Rejected
from panelworks.storage.atomic import is_temporary, temporary_name, write_atomically
from panelworks.storage.folder import FileInfo
from panelworks.storage.headers import ObjectHeaders
from panelworks.text import path_to_text, text_to_path

_RECENT_NANOSECONDS: Final = 24 * 3600 * 10**9


class SkippedEntry(NamedTuple):
    """An entry of a folder that the listing of its files skips."""

    name: str
    code: str
    """`not_readable`, `symlink` (a link to a folder or to nothing) or `no_file` (a pipe, a socket, a device)."""
    message: str
    is_folder: bool


class LocalFolder:
    """Objects as files under `root`."""

    def __init__(self, root: str | Path) -> None:
        path = Path(root).expanduser().absolute()
        self._root = path.resolve() if ".." in path.parts else path

    def read(self, name: str, limit: int | None = None) -> bytes | None:
        path = self._path(name)
        try:
            if limit is not None and path.stat().st_size > limit:
                raise Rejected("too_large", f"{path} has more than {limit} bytes.")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Misconfigured(NOT_READABLE, f"{path} cannot be read ({_cause(error)}).") from error

    def write(self, name: str, data: bytes, media_type: str, headers: ObjectHeaders | None = None) -> str:
        path = self._path(name)
        try:
            write_atomically(path, data)
        except OSError as error:
            raise _to_error(error, path) from error
        return path.as_uri()

    def create(self, name: str, data: bytes, media_type: str) -> bool:
        path = self._path(name)
        if path.exists():
            return False
        temporary = path.with_name(temporary_name())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except FileExistsError:
            return False
        except OSError as error:
            raise _to_error(error, path) from error
        return True

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def info(self, name: str) -> FileInfo | None:
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _to_error(error, self._path(name)) from error
        return FileInfo(name, found.st_size, str(found.st_mtime_ns), found.st_mtime)

    def delete(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _to_error(error, self._path(name)) from error

    def files(self, under: str = "") -> Iterator[FileInfo]:
        """All objects whose names begin with `under`. Unfinished files and entries that are not files are skipped."""
        begin = self._root / under.rpartition("/")[0]
        for folder, _, names in os.walk(begin):
            for name in names:
                path = Path(folder, name)
                relative = self._relative(path)
                if relative.startswith(under) and not is_temporary(name):
                    try:
                        found = path.stat()
                    except OSError:
                        continue  # it was removed in the meantime, or is a broken link
                    if not stat.S_ISREG(found.st_mode):
                        continue
                    yield FileInfo(relative, found.st_size, str(found.st_mtime_ns), found.st_mtime)

    def skipped_entries(self) -> Iterator[SkippedEntry]:
        """The entries that `files` skips: links to folders, broken links, pipes, sockets, devices, unreadable folders."""
        errors: list[OSError] = []
        for folder, folders, names in os.walk(self._root, onerror=errors.append):
            for name in folders:
                path = Path(folder, name)
                if path.is_symlink():
                    message = "It is a link to a folder; links are not followed."
                    yield SkippedEntry(self._relative(path), "symlink", message, is_folder=True)
            for name in names:
                path = Path(folder, name)
                why = _refusal_of(path)
                if why is not None:
                    yield SkippedEntry(self._relative(path), *why, is_folder=False)
        for error in errors:
            message = f"The folder cannot be listed ({_cause(error)})."
            place = self._relative(Path(error.filename or self._root))
            yield SkippedEntry(place, NOT_READABLE, message, is_folder=True)

    def _relative(self, path: Path) -> str:
        return path_to_text(path.relative_to(self._root).as_posix())

    def touch(self, name: str) -> None:
        """Mark the object as recently used."""
        with suppress(OSError):
            os.utime(self._path(name))

    def shrink(self, under: str, limit: int) -> None:
        """Remove the oldest objects whose names begin with `under`, until at most `limit` bytes of them are left.

        Objects that were written or used in the last day remain: they may be in use.
        """
        files = sorted(self.files(under), key=lambda file: int(file.version))
        total_bytes = sum(file.bytes for file in files)
        for file in files:
            if total_bytes <= limit or time.time_ns() - int(file.version) < _RECENT_NANOSECONDS:
                return
            self.delete(file.name)
            total_bytes -= file.bytes

    def check_usable(self) -> None:
        try:
            existing = next(path for path in (self._root, *self._root.parents) if path.exists())
            is_folder = existing.is_dir()
            read_only = bool(os.statvfs(existing).f_flag & os.ST_RDONLY)
        except OSError as error:
            raise _to_error(error, self._root) from error
        if not is_folder:
            raise Misconfigured("not_writable", f"{self._root} cannot be used: {existing} is a file.")
        if read_only or not os.access(existing, os.W_OK | os.X_OK):
            raise Misconfigured("not_writable", f"{self._root} cannot be used: {existing} is read-only.")

    def uri(self, name: str) -> str:
        return self._path(name).as_uri()

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if ".." in parts:
            raise ValueError(f"an object name contains '..': {name!r}")
        return self._root.joinpath(*(text_to_path(part) for part in parts))


def _refusal_of(path: Path) -> tuple[str, str] | None:
    """Code and reason why the entry of a folder is not a readable file; None for a file."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return None
    except FileNotFoundError:  # also if it was removed in the meantime
        return ("symlink", "It is a link to nothing.") if path.is_symlink() else None
    except OSError as error:
        return NOT_READABLE, f"It cannot be read ({_cause(error)})."
    return "no_file", "It is a pipe, a socket or a device."


def _to_error(error: OSError, path: Path) -> PanelworksError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Misconfigured("disk_full", f"There is no room left on the disk of {path.parent}.")
    return Misconfigured("not_writable", f"{path} cannot be used ({_cause(error)}).")


def _cause(error: OSError) -> str:
    return error.strerror or type(error).__name__
