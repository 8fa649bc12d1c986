"""A folder on a local disk; objects appear by an atomic rename."""

import errno
import os
import tempfile
from pathlib import Path

from panelworks.errors import Misconfigured, PanelworksError, Rejected


class LocalFolder:
    """Objects as files under `root`."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).expanduser().absolute()

    def read(self, name: str, limit: int | None = None) -> bytes | None:
        path = self._path(name)
        try:
            if limit is not None and path.stat().st_size > limit:
                raise Rejected("too_large", f"{path} has more than {limit} bytes.")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _explained(error, path) from error

    def write(self, name: str, data: bytes, media_type: str) -> str:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".panelworks-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _explained(error, path) from error
        return path.as_uri()

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def uri(self, name: str) -> str:
        return self._path(name).as_uri()

    def _path(self, name: str) -> Path:
        path = self._root.joinpath(*name.split("/"))
        if ".." in path.parts:
            raise ValueError(f"object names cannot climb: {name!r}")
        return path


def _explained(error: OSError, path: Path) -> PanelworksError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Misconfigured("disk_full", f"There is no room left on the disk of {path.parent}.")
    return Misconfigured("not_writable", f"{path} cannot be used ({error.strerror or type(error).__name__}).")
