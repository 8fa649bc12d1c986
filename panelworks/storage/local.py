"""A folder on a local disk; objects appear by an atomic rename."""

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
from panelworks.text import path_to_text, text_to_path

_YOUNG_NS: Final = 24 * 3600 * 10**9


class LeftOut(NamedTuple):
    """Something in a folder that a listing of its files does not give."""

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

    def write(self, name: str, data: bytes, media_type: str) -> str:
        path = self._path(name)
        try:
            write_atomically(path, data)
        except OSError as error:
            raise _explained(error, path) from error
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
            raise _explained(error, path) from error
        return True

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def info(self, name: str) -> FileInfo | None:
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _explained(error, self._path(name)) from error
        return FileInfo(name, found.st_size, str(found.st_mtime_ns), found.st_mtime)

    def delete(self, name: str) -> None:
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _explained(error, self._path(name)) from error

    def files(self, under: str = "") -> Iterator[FileInfo]:
        """What other writers have not finished, and what systems hide, is left out of the listing."""
        begin = self._root / under.rpartition("/")[0]
        for folder, _, names in os.walk(begin):
            for name in names:
                path = Path(folder, name)
                relative = self._relative(path)
                if relative.startswith(under) and not is_temporary(name):
                    try:
                        found = path.stat()
                    except OSError:
                        continue  # it was removed meanwhile, or is a link to nowhere
                    if not stat.S_ISREG(found.st_mode):
                        continue
                    yield FileInfo(relative, found.st_size, str(found.st_mtime_ns), found.st_mtime)

    def left_out(self) -> Iterator[LeftOut]:
        """What `files` does not give although it is there."""
        errors: list[OSError] = []
        for folder, folders, names in os.walk(self._root, onerror=errors.append):
            for name in folders:
                path = Path(folder, name)
                if path.is_symlink():
                    message = "It is a link to a folder; links are not followed."
                    yield LeftOut(self._relative(path), "symlink", message, is_folder=True)
            for name in names:
                path = Path(folder, name)
                why = _no_file(path)
                if why is not None:
                    yield LeftOut(self._relative(path), *why, is_folder=False)
        for error in errors:
            message = f"The folder cannot be listed ({_cause(error)})."
            place = self._relative(Path(error.filename or self._root))
            yield LeftOut(place, NOT_READABLE, message, is_folder=True)

    def _relative(self, path: Path) -> str:
        return path_to_text(path.relative_to(self._root).as_posix())

    def touch(self, name: str) -> None:
        """Say that the object is still wanted."""
        with suppress(OSError):
            os.utime(self._path(name))

    def shrink(self, under: str, limit: int) -> None:
        """Remove the oldest objects whose names begin with `under`, until at most `limit` bytes of them are left.

        What was written or wanted in the last day stays: somebody may be at it.
        """
        files = sorted(self.files(under), key=lambda file: int(file.version))
        held = sum(file.bytes for file in files)
        for file in files:
            if held <= limit or time.time_ns() - int(file.version) < _YOUNG_NS:
                return
            self.delete(file.name)
            held -= file.bytes

    def check_usable(self) -> None:
        try:
            existing = next(path for path in (self._root, *self._root.parents) if path.exists())
            is_folder = existing.is_dir()
            read_only = bool(os.statvfs(existing).f_flag & os.ST_RDONLY)
        except OSError as error:
            raise _explained(error, self._root) from error
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


def _no_file(path: Path) -> tuple[str, str] | None:
    """Code and reason when no file can be read at a path that a folder lists."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return None
    except FileNotFoundError:  # also when it was removed meanwhile
        return ("symlink", "It is a link to nothing.") if path.is_symlink() else None
    except OSError as error:
        return NOT_READABLE, f"It cannot be read ({_cause(error)})."
    return "no_file", "It is a pipe, a socket or a device."


def _explained(error: OSError, path: Path) -> PanelworksError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Misconfigured("disk_full", f"There is no room left on the disk of {path.parent}.")
    return Misconfigured("not_writable", f"{path} cannot be used ({_cause(error)}).")


def _cause(error: OSError) -> str:
    return error.strerror or type(error).__name__
