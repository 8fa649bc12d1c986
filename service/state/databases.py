"""Prefect's database as a file, and back: SQLite, the Postgres of this installation, or any other Postgres.

Blocks are encrypted with a key that is a row of the same database, unless PREFECT_SERVER_ENCRYPTION_KEY names one.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy.engine import URL, make_url

from panelworks.errors import Misconfigured
from panelworks.settings import Settings
from panelworks.storage.atomic import writing
from service.stack.database import URL_VARIABLES, Cluster, Database, cluster_folder, find_programs
from service.stack.parts import Part

_START_SECONDS: Final = 60.0
_ROW_OF_REVISION: Final = "SELECT version_num FROM alembic_version"
_FREE_ALL_SLOTS: Final = (
    "UPDATE concurrency_limit_v2 SET active_slots = 0",
    "UPDATE concurrency_limit SET active_slots = '[]'",
)
"""No run holds a slot in a restored database, and the leases that would return the slots are not in it."""
_PROGRESS_INSTRUCTIONS: Final = 1_000_000
"""Of SQLite, between two moments at which Ctrl-C is noticed."""
_FILE_MODE: Final = 0o600


class StateDatabase(Protocol):
    """A database of Prefect's server."""

    kind: Database

    def save(self, path: Path) -> None:
        """Write a consistent copy to `path`, also while the server runs."""
        ...

    def read_revision(self) -> str:
        """The revision of the tables."""
        ...

    def check_empty(self) -> None:
        """Raises Misconfigured (`database_not_empty`) if it has tables."""
        ...

    def load(self, path: Path) -> None:
        """Create the tables and rows of a copy, all or none. Nothing holds a concurrency slot afterwards."""
        ...


class SQLiteDatabase:
    """An SQLite file."""

    kind: Database = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, path: Path) -> None:
        with self._connected() as connection:
            # The statement would ignore Ctrl-C; an exception in the handler ends it.
            connection.set_progress_handler(lambda: 0, _PROGRESS_INSTRUCTIONS)
            try:
                connection.execute("VACUUM INTO ?", (str(path),))
            except sqlite3.OperationalError as error:
                if "interrupt" in str(error):
                    raise KeyboardInterrupt from error
                raise
        with closing(sqlite3.connect(path)) as copy:
            _check_intact(copy, path)

    def read_revision(self) -> str:
        with self._connected() as connection:
            return str(connection.execute(_ROW_OF_REVISION).fetchone()[0])

    def check_empty(self) -> None:
        for path in (self._path, *(Path(f"{self._path}{suffix}") for suffix in ("-wal", "-shm", "-journal"))):
            if path.exists() and (path != self._path or path.stat().st_size):
                raise _not_empty(str(path), "move it away, or set another PREFECT_HOME")

    def load(self, path: Path) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with writing(self._path, _FILE_MODE) as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL, _FILE_MODE))
            shutil.copyfile(path, temporary)
            with closing(sqlite3.connect(temporary)) as connection:
                _check_intact(connection, path)
                for statement in _FREE_ALL_SLOTS:
                    connection.execute(statement)
                connection.commit()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(f"{self._path.as_uri()}?mode=rw", uri=True, timeout=60)
            ) as connection:
                yield connection
        except sqlite3.Error as error:
            raise Misconfigured("database_failed", f"{self._path} cannot be copied ({error}).") from error


class PostgresDatabase:
    """A Postgres, reached by its own programs."""

    kind: Database = "postgres"

    def __init__(self, url: URL, programs: Path) -> None:
        self._shown = url.render_as_string(hide_password=True)
        self._programs = programs
        query = {name: value for name, value in url.query.items() if isinstance(value, str)}
        login = {
            "PGHOST": url.host or query.get("host"),
            "PGPORT": str(url.port) if url.port else query.get("port"),
            "PGUSER": url.username,
            "PGPASSWORD": url.password,
            "PGDATABASE": url.database,
            "PGSSLMODE": query.get("ssl") or query.get("sslmode"),
        }
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            **{name: value for name, value in login.items() if value},
        }

    def save(self, path: Path) -> None:
        self._run("pg_dump", "--no-owner", "--no-privileges", "--no-comments", f"--file={path}")

    def read_revision(self) -> str:
        return self._ask(_ROW_OF_REVISION)

    def check_empty(self) -> None:
        tables = self._ask("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()")
        if tables != "0":
            raise _not_empty(self._shown, "create an empty database, and name that one")

    def load(self, path: Path) -> None:
        commands = [f"--command={statement}" for statement in _FREE_ALL_SLOTS]
        # A dump clears the search path of its session, in which the tables would not be found.
        path_of_tables = f"--command=SET search_path TO {self._ask('SELECT quote_ident(current_schema())')}"
        self._run("psql", "--single-transaction", "--quiet", f"--file={path}", path_of_tables, *commands)

    def _ask(self, question: str) -> str:
        return self._run("psql", "--tuples-only", "--no-align", f"--command={question}").strip()

    def _run(self, program: str, *arguments: str) -> str:
        """Run a program of Postgres on the database; returns its output."""
        options = ("--no-psqlrc", "--set=ON_ERROR_STOP=1") if program == "psql" else ()
        done = subprocess.run(  # noqa: S603 - a program of Postgres
            [self._programs / program, "--no-password", *options, *arguments],
            env=self._environment, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            reason = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise Misconfigured("database_failed", f"{program} failed at {self._shown}: {reason}")
        return done.stdout


@contextmanager
def open_source(settings: Settings, chosen: Database | None) -> Iterator[StateDatabase]:
    """The database that `panelworks up` uses with these settings. A Postgres of its own is started if it is stopped.

    Args:
        settings: The cache folder has the cluster.
        chosen: As `up --database`; None takes the one that exists, or of two the Postgres if it runs.

    Raises:
        Misconfigured: `no_database`, `which_database`, `no_postgres`, `postgres_failed`.
    """
    url = _configured_url()
    if _is_named() or url.get_backend_name() != "sqlite":
        with _at(url) as named:
            yield named
        return
    cluster, sqlite = Cluster(cluster_folder(settings.cache_dir)), _path_of(url)
    kinds: list[Database] = ["sqlite"] if sqlite.exists() else []
    kinds += ["postgres"] if cluster.exists else []
    if chosen is not None:
        kinds = [kind for kind in kinds if kind == chosen]
    if len(kinds) == 2 and cluster.attach() and cluster.answers():
        kinds = ["postgres"]
    if not kinds:
        raise Misconfigured(
            "no_database",
            f"There is no database in {sqlite.parent} or {settings.cache_dir}; run this on the machine and as the user"
            " of the Prefect server, with its settings.",
        )
    if len(kinds) == 2:
        raise Misconfigured(
            "which_database",
            "This installation has an SQLite database and a Postgres that does not run: name one with --database.",
        )
    if kinds == ["sqlite"]:
        yield SQLiteDatabase(sqlite)
    else:
        with _running(cluster, settings) as postgres:
            yield postgres


@contextmanager
def open_target(settings: Settings, kind: Database, *, create: bool) -> Iterator[StateDatabase | None]:
    """The database of this kind that `panelworks up` will use with these settings.

    Args:
        settings: The cache folder receives the cluster.
        kind: That of the backup.
        create: Create a Postgres of this installation if there is none; else None is yielded for it.

    Raises:
        Misconfigured: `other_database`, the settings name a database of another kind; `no_postgres`, `postgres_failed`.
    """
    url = _configured_url()
    found: Database = "sqlite" if url.get_backend_name() == "sqlite" else "postgres"
    if found == kind:
        with _at(url) as named:
            yield named
    elif _is_named() or found == "postgres":
        raise Misconfigured(
            "other_database", f"The backup is of {kind}, but the settings name a database of {found}."
        )
    else:
        cluster = Cluster(cluster_folder(settings.cache_dir))
        if not create and not cluster.exists:
            find_programs()
            yield None
            return
        with _running(cluster, settings) as postgres:
            yield postgres


def _configured_url() -> URL:
    """The database of Prefect's settings: environment, profile and files. The default is a file in PREFECT_HOME."""
    from prefect.settings import get_current_settings

    secret = get_current_settings().server.database.connection_url
    if secret is None:
        raise Misconfigured("no_database", "Prefect's settings name no database.")
    return make_url(secret.get_secret_value())


def _is_named() -> bool:
    return any(os.environ.get(name) for name in URL_VARIABLES)


@contextmanager
def _at(url: URL) -> Iterator[StateDatabase]:
    if url.get_backend_name() == "sqlite":
        yield SQLiteDatabase(_path_of(url))
        return
    yield PostgresDatabase(url, _find_clients())


def _path_of(url: URL) -> Path:
    if not url.database or "memory" in url.database:
        raise Misconfigured("no_database", "An SQLite database in memory has no backup.")
    return Path(url.database).absolute()


def _find_clients() -> Path:
    """The folder of `pg_dump` and `psql`: of the newest server that is installed, else on the PATH."""
    try:
        return find_programs()
    except Misconfigured:
        on_path = shutil.which("pg_dump")
        if on_path is None:
            raise Misconfigured(
                "no_postgres", "pg_dump and psql are not installed (Debian: apt install postgresql-client)."
            ) from None
        return Path(on_path).parent


@contextmanager
def _running(cluster: Cluster, settings: Settings) -> Iterator[PostgresDatabase]:
    """The Postgres of this installation; started for the block if it does not run."""
    if cluster.attach() and cluster.answers():
        yield PostgresDatabase(make_url(cluster.url), cluster.programs)
        return
    cluster.create()
    part = Part(
        "postgres",
        cluster.command,
        {"PATH": os.defpath, "LANG": "C.UTF-8"},
        settings.make_cache_dir().absolute() / "logs",
        cluster.user,
    )
    try:
        part.start()
        deadline = time.monotonic() + _START_SECONDS
        while not cluster.answers():
            if not part.running or time.monotonic() > deadline:
                raise Misconfigured("postgres_failed", f"Postgres did not start:\n{part.read_log_end()}")
            time.sleep(0.1)
        yield PostgresDatabase(make_url(cluster.url), cluster.programs)
    finally:
        part.stop()
        cluster.remove_socket_folder()


def _check_intact(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Misconfigured("database_damaged", f"The database in {path} is damaged: {found}")


def _not_empty(place: str, fix: str) -> Misconfigured:
    return Misconfigured(
        "database_not_empty",
        f"{place} has contents, and a backup is only restored into an empty database: {fix}.",
    )
