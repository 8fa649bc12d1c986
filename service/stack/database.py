"""A Postgres of this installation, started by `panelworks up --database postgres` when its programs are installed.

It listens on a Unix socket in a folder of its own and on no port, demands a password, and runs as an unprivileged user.
"""

import asyncio
import hashlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Literal

from panelworks.errors import Misconfigured

Database = Literal["sqlite", "postgres"]
URL_VARIABLES: Final = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Variables by which a user names a database; Prefect reads both."""
_USER: Final = "panelworks"
_SYSTEM_USER: Final = "postgres"
"""The user that runs Postgres when this process is root: Postgres refuses to run as root."""
_ROOTS_FOLDER: Final = Path("/var/lib/panelworks")
"""Clusters of root: the unprivileged user cannot read root's cache folder."""
_PROGRAM_FOLDERS: Final = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt")
_INITDB_SECONDS: Final = 120
_CONNECT_SECONDS: Final = 5
_SOCKET_LINE: Final = 4
"""Index of the line of `postmaster.pid` with the folder of the socket."""


class Cluster:
    """The folder of a Postgres, and how it is started."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the data, the password and nothing else; it is created with the cluster."""
        self._folder = folder
        self._data = folder / "data"
        self._password = folder / "password"
        self._sockets: Path | None = None
        self.user = _SYSTEM_USER if os.geteuid() == 0 else None
        """The user that runs it; None: the user of this process."""

    @property
    def exists(self) -> bool:
        """Was it created?"""
        return self._data.exists()

    def attach(self) -> bool:
        """Find the socket of another process that runs it, as the server's file in the data says; False without one."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            self._sockets = Path(lines[_SOCKET_LINE])
        except (OSError, IndexError):
            return False
        return True

    def create(self) -> None:
        """Create the cluster unless it exists, and the folder of the socket.

        Raises:
            Misconfigured: `no_postgres`, `postgres_version`, `postgres_failed`.
        """
        programs = self.programs
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._give_to_user(self._folder)
        if not self._data.exists():
            self._initialize(programs / "initdb")
        # Names of sockets have at most 107 bytes, so they are not in the cluster's folder.
        self._sockets = Path(tempfile.mkdtemp(prefix="panelworks-pg-"))
        self._give_to_user(self._sockets)

    def remove_socket_folder(self) -> None:
        """Remove the folder that `create` made outside of the cluster's folder."""
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def command(self) -> list[str]:
        if self._sockets is None:
            raise RuntimeError("the cluster was not created")
        program = str(self.programs / "postgres")
        return [program, "-D", str(self._data), "-k", str(self._sockets), "-c", "listen_addresses="]

    @property
    def url(self) -> str:
        """The address for Prefect's server, with the password."""
        return f"postgresql+asyncpg://{_USER}:{self._secret()}@/postgres?host={self._sockets}"

    def answers(self) -> bool:
        """Does it accept connections?"""
        from asyncpg import PostgresError

        try:
            asyncio.run(self._connect())
        except (OSError, PostgresError, TimeoutError):
            return False
        return True

    async def _connect(self) -> None:
        from asyncpg import connect

        connection = await connect(
            user=_USER, password=self._secret(), host=str(self._sockets), database="postgres",
            timeout=_CONNECT_SECONDS,
        )  # fmt: skip
        await connection.close()

    def _secret(self) -> str:
        return self._password.read_text(encoding="utf-8").strip()

    @property
    def programs(self) -> Path:
        """The folder of programs that fit the data, or of the newest ones."""
        try:
            major = (self._data / "PG_VERSION").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return find_programs()
        return find_programs(major)

    def _initialize(self, initdb: Path) -> None:
        """Create the data under another name first, so that an interrupted start leaves no broken cluster."""
        if not self._password.exists():
            handle = os.open(self._password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(32))
        self._give_to_user(self._password)
        draft = self._folder / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        done = subprocess.run(  # noqa: S603 - our own command line
            [
                initdb, "-D", draft, "-U", _USER, "-E", "UTF8", "--no-locale", f"--pwfile={self._password}",
                "--auth-local=scram-sha-256", "--auth-host=reject",
            ],
            user=self.user, group=self.user, extra_groups=[] if self.user else None, cwd="/",
            capture_output=True, text=True, timeout=_INITDB_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            last = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise Misconfigured(
                "postgres_failed", f"Postgres could not create its cluster in {draft}: {last}"
            )
        draft.rename(self._data)

    def _give_to_user(self, path: Path) -> None:
        if self.user:
            shutil.chown(path, self.user, self.user)


def cluster_folder(cache_dir: Path) -> Path:
    """The folder of the cluster of this cache folder."""
    if os.geteuid() != 0:
        return cache_dir.absolute() / "postgres"
    mark = hashlib.sha256(str(cache_dir.absolute()).encode()).hexdigest()[:12]
    return _ROOTS_FOLDER / f"postgres-{mark}"


def find_programs(major: str | None = None) -> Path:
    """The folder that holds `initdb` and `postgres`.

    Args:
        major: The major version that the data needs; else the newest one is used.

    Raises:
        Misconfigured: `no_postgres`, `postgres_version`; as root also when no user exists to run it.
    """
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(_SYSTEM_USER)
        except KeyError:
            raise Misconfigured(
                "no_postgres", f"Postgres does not run as root, and there is no user '{_SYSTEM_USER}'."
            ) from None
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    for folder in _PROGRAM_FOLDERS:
        found += [path.parent for path in Path(folder).glob("*/bin/initdb")]
    versions = {folder: _version(folder) for folder in found if (folder / "postgres").exists()}
    if not versions:
        raise Misconfigured(
            "no_postgres", "The programs of Postgres are not installed (Debian: apt install postgresql)."
        )
    fitting = [folder for folder, version in versions.items() if major is None or str(version) == major]
    if not fitting:
        known = ", ".join(map(str, sorted(set(versions.values()))))
        raise Misconfigured(
            "postgres_version", f"The database was created by Postgres {major}; installed: {known}."
        )
    return max(fitting, key=lambda folder: versions[folder])


def _version(folder: Path) -> int:
    """The major version of a folder's programs."""
    done = subprocess.run(  # noqa: S603 - a program of Postgres
        [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    number = re.search(r"(\d+)", done.stdout)
    return int(number[1]) if number else 0
