"""Restoring a backup into an installation whose database is empty.

The database is written last and as a whole: until then, an interrupted restore can be repeated.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import prefect.server.database
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from panelworks.errors import Misconfigured
from panelworks.settings import Settings
from panelworks.storage import open_folder
from panelworks.storage.atomic import temporary_name
from service.prefect_server import ServerAccess
from service.stack.database import Database
from service.state.backup import (
    AUTH_STRING,
    DATABASE,
    KEY_VARIABLES,
    LEDGER,
    STORE,
    Report,
    environment_key_digest,
)
from service.state.backup_file import Manifest, read_members, verify_backup
from service.state.databases import StateDatabase, open_target

_DIALECTS: Final[dict[Database, str]] = {"sqlite": "sqlite", "postgres": "postgresql"}
_MEDIA_TYPES: Final = {
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".html": "text/html",
}


@dataclass
class Restored:
    """What a restore did."""

    manifest: Manifest
    written: int = 0
    kept: int = 0
    """Files that existed already. They are not replaced."""


def check_backup(path: Path, settings: Settings, report: Report) -> Manifest:
    """Check whether a backup can be restored with these settings, and change nothing.

    Raises:
        Misconfigured: `no_backup`, `bad_backup`, `newer_backup`, `newer_database`, `other_key`, `other_database`,
            `database_not_empty`.
    """
    manifest = _verify(path, report)
    with open_target(settings, manifest.database, create=False) as database:
        if database is not None:
            database.check_empty()
    return manifest


def restore_backup(path: Path, settings: Settings, report: Report) -> Restored:
    """Restore a backup. Files of store and ledger that exist are kept; the database must be empty.

    Raises:
        Misconfigured: as `check_backup`, and `not_writable`, `disk_full`, `database_failed`.
        Transient: a bucket does not answer.
    """
    restored = Restored(_verify(path, report))
    settings.make_cache_dir()
    with open_target(settings, restored.manifest.database, create=True) as database:
        if database is None:
            raise AssertionError
        database.check_empty()
        draft = settings.cache_dir / temporary_name()
        draft.mkdir(mode=0o700)
        try:
            _restore_files(path, draft / DATABASE, settings, restored)
            report(f"files: {restored.written} written, {restored.kept} kept because they exist")
            _load(database, draft / DATABASE, report)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return restored


def _verify(path: Path, report: Report) -> Manifest:
    manifest = verify_backup(path)
    report(
        f"backup of {manifest.host}, {manifest.created_at:%Y-%m-%d %H:%M} UTC: complete, made by Panelworks"
        f" {manifest.panelworks} (engine {manifest.engine}) with Prefect {manifest.prefect}"
    )
    _check_revision(manifest)
    _check_key(manifest)
    return manifest


def _check_revision(manifest: Manifest) -> None:
    """The server migrates older tables when it starts. Newer ones are unknown to it."""
    migrations = Path(prefect.server.database.__file__).parent / "_migrations"
    versions = migrations / "versions" / _DIALECTS[manifest.database]
    try:
        ScriptDirectory(str(migrations), version_locations=[str(versions)]).get_revision(
            manifest.schema_revision
        )
    except CommandError as error:
        raise Misconfigured(
            "newer_database",
            f"The backup has the database of Prefect {manifest.prefect}, which Prefect {prefect.__version__} cannot"
            " use; install that version or a later one.",
        ) from error


def _check_key(manifest: Manifest) -> None:
    """Blocks are readable only with the key that encrypted them."""
    if manifest.key_digest == environment_key_digest():
        return
    name = KEY_VARIABLES[0]
    raise Misconfigured(
        "other_key",
        f"The key of the blocks is in the backup: unset {name}, which names another one."
        if manifest.key_digest is None
        else f"The key of the blocks is not in the backup: set {name} to the value that the server had.",
    )


def _restore_files(path: Path, database: Path, settings: Settings, restored: Restored) -> None:
    folders = {
        STORE: open_folder(settings.store_location, settings),
        LEDGER: open_folder(settings.ledger_location, settings),
    }
    for name, file in read_members(path):
        if name == DATABASE:
            with database.open("xb") as copy:
                shutil.copyfileobj(file, copy)
        elif name == AUTH_STRING:
            _count(restored, written=ServerAccess(settings.cache_dir).restore(file.read().decode()))
        for prefix, folder in folders.items():
            if name.startswith(prefix):
                media_type = _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
                _count(restored, written=folder.create(name.removeprefix(prefix), file.read(), media_type))


def _count(restored: Restored, *, written: bool) -> None:
    restored.written += written
    restored.kept += not written


def _load(database: StateDatabase, copy: Path, report: Report) -> None:
    database.load(copy)
    report(f"database: {database.kind}, {copy.stat().st_size / 2**20:.1f} MiB")
