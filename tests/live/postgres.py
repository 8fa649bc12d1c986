"""A Postgres server for tests, from the programs of the system's packages."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers import free_port, listens, until


class Postgres:
    """A cluster in a folder, on a free port of loopback. Postgres refuses to run as root: root starts it as another user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "postgres"
        self._folder.mkdir()
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
        self.port = free_port()
        self.url = f"postgresql+asyncpg://panelworks:panelworks@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        password = self._folder / "password"
        password.write_text("panelworks")
        data = self._folder / "data"
        subprocess.run(
            [_program("initdb"), "-D", data, "-U", "panelworks", "--auth=scram-sha-256", f"--pwfile={password}"],
            check=True, stdout=subprocess.DEVNULL, user=self._user, cwd="/",
        )  # fmt: skip
        self._process = subprocess.Popen(
            [_program("postgres"), "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self._folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=self._user, cwd="/",
        )  # fmt: skip
        until(lambda: listens(self.port))

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait()


def _program(name: str) -> str:
    """Path of a program of Postgres. Debian does not put them on the PATH."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    assert found, "install postgresql: `make servers`"
    return found
