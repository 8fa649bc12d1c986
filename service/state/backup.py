"""Writing a backup while the service runs.

The order of the copies makes them fit each other. Accepted jobs and claims come before the database: a job without a
run gets one again, under the same idempotency key, while a job whose run is missing would wait forever. What a run
writes at its end comes after the database: a run that has ended there must have its row, record and callback.
"""

import errno
import hashlib
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

import prefect
from pydantic import ValidationError

from panelworks.domain.formats import MEDIA_TYPES
from panelworks.domain.result import JobRecord
from panelworks.errors import Misconfigured, Rejected
from panelworks.page.admission import AcceptedJob
from panelworks.settings import Settings
from panelworks.sources.stored import parse_stored
from panelworks.storage import ObjectFolder, open_folder
from panelworks.storage.atomic import publish, sweep, temporary_name
from panelworks.storage.content import object_name
from panelworks.version import ENGINE_VERSION, __version__
from service.prefect_server import ServerAccess
from service.state.backup_file import (
    FORMAT,
    BackupWriter,
    Manifest,
    backup_name,
    verify_backup,
    writing_backup,
)
from service.state.databases import StateDatabase

logger = logging.getLogger(__name__)

DATABASE: Final = "database"
AUTH_STRING: Final = "auth-string"
STORE: Final = "store/"
LEDGER: Final = "ledger/"
KEY_VARIABLES: Final = ("PREFECT_SERVER_ENCRYPTION_KEY", "ORION_ENCRYPTION_KEY")
"""Variables with the key of the blocks; Prefect reads both. Without them the key is in the database."""
_ACCEPTED: Final = "accepted/"
_JOBS: Final = "jobs/"
_BEFORE: Final = ("accepted/pending/", _ACCEPTED, "claims/", "uploads/")
"""Parts of the store that are copied before the database. A job moves from pending to settled, so pending is first."""
_AFTER: Final = ("callbacks/pending/", "callbacks/", _JOBS, "reviews/", "series/", "cancelled/", "batches/")
"""Parts of the store that are copied after the database. A decision is stored before the record of its job says so."""
_OBJECTS: Final = "objects/"
_READERS: Final = 8
_BATCH: Final = 64
"""Files that are read at the same time, and that are in memory."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Backup:
    """A finished backup."""

    path: Path
    bytes: int
    seconds: float
    manifest: Manifest


def write_backup(
    folder: Path, database: StateDatabase, settings: Settings, report: Report, *, pictures: bool = False
) -> Backup:
    """Write a backup into `folder` and verify it. Until it is complete, it has a hidden name.

    Args:
        folder: Created if it does not exist, without access for other users.
        database: That of the server.
        settings: Where ledger, store and auth string are.
        report: Receives a line for each part.
        pictures: Include all pictures of the store; else only the uploads of unfinished jobs.

    Raises:
        Misconfigured: `not_writable`, `disk_full`, and those of the database and the folders. Transient: a bucket does
            not answer.
    """
    began, moment = time.monotonic(), datetime.now(UTC)
    draft = folder / temporary_name()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(folder, deep=False)
        draft.mkdir(mode=0o700)
        path, file = folder / backup_name(moment), draft / "backup"
        with writing_backup(file) as writer:
            _copy_all(writer, draft, database, settings, report, moment, pictures=pictures)
        manifest = verify_backup(file)
        publish(file, path, 0o600)
    except OSError as error:
        code = "disk_full" if error.errno in _DISK_FULL else "not_writable"
        raise Misconfigured(code, f"The backup cannot be written to {folder} ({error.strerror}).") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Backup(path, path.stat().st_size, time.monotonic() - began, manifest)


def environment_key_digest() -> str | None:
    """Start of the digest of the environment's encryption key, which identifies it; None if there is none."""
    key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()[:16]


_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def _copy_all(
    writer: BackupWriter,
    draft: Path,
    database: StateDatabase,
    settings: Settings,
    report: Report,
    moment: datetime,
    *,
    pictures: bool,
) -> None:
    store = open_folder(settings.store_location, settings)
    unfinished: dict[str, str] = {}
    count = 0
    for name, data in _read_all(store, _BEFORE, writer):
        writer.add(STORE + name, data)
        count += 1
        if name.startswith(_ACCEPTED) and (upload := _upload_of(data)) is not None:
            unfinished[PurePosixPath(name).stem] = upload
    report(f"accepted jobs: {count} files")

    copy = draft / DATABASE
    database.save(copy)
    writer.add_file(DATABASE, copy)
    report(f"database: {database.kind}, {copy.stat().st_size / 2**20:.1f} MiB")
    copy.unlink()

    count = 0
    for name, data in _read_all(store, _AFTER, writer):
        writer.add(STORE + name, data)
        count += 1
        if name.startswith(_JOBS) and _is_delivered(data):
            unfinished.pop(PurePosixPath(name).stem, None)
    report(f"finished jobs and callbacks: {count} files")

    count = 0
    for name, data in _read_all(open_folder(settings.ledger_location, settings), ("",), writer, LEDGER):
        writer.add(LEDGER + name, data)
        count += 1
    report(f"ledger and register of books: {count} files")

    wanted = [file.name for file in store.files(_OBJECTS)] if pictures else sorted(set(unfinished.values()))
    count = 0
    for name, data in _read_names(store, wanted):
        writer.add(STORE + name, data)
        count += 1
    report(f"pictures: {count}" if pictures else f"uploads of unfinished jobs: {count}")

    secret = ServerAccess(settings.cache_dir).read()
    if secret is not None:
        writer.add(AUTH_STRING, secret.encode())
    writer.finish(_make_manifest(writer, database, settings, moment))


def _make_manifest(
    writer: BackupWriter, database: StateDatabase, settings: Settings, moment: datetime
) -> Manifest:
    """Describe a backup whose members were all added."""
    return Manifest(
        format=FORMAT,
        created_at=moment,
        host=socket.gethostname(),
        panelworks=__version__,
        engine=ENGINE_VERSION,
        prefect=prefect.__version__,
        database=database.kind,
        schema_revision=database.read_revision(),
        key_digest=environment_key_digest(),
        store=settings.store_location,
        ledger=settings.ledger_location,
        members=writer.members,
    )


def _read_all(
    folder: ObjectFolder, parts: Sequence[str], writer: BackupWriter, prefix: str = STORE
) -> Iterator[tuple[str, bytes]]:
    """The files of parts of a folder, without those that the backup has."""
    for part in parts:
        names = [file.name for file in folder.files(part)]
        yield from _read_names(folder, [name for name in names if prefix + name not in writer.members])


def _read_names(folder: ObjectFolder, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The files of these names, without those that were removed in the meantime. A bucket answers several at once."""
    with ThreadPoolExecutor(_READERS) as readers:
        for begin in range(0, len(names), _BATCH):
            batch = names[begin : begin + _BATCH]
            for name, data in zip(batch, readers.map(folder.read, batch), strict=True):
                if data is not None:
                    yield name, data


def _upload_of(data: bytes) -> str | None:
    """Name of the stored picture that an accepted job reads; None if it reads none, or the record is damaged."""
    try:
        digest, kind, _ = parse_stored(AcceptedJob.model_validate_json(data).request.source)
    except (ValidationError, Rejected):
        return None
    return object_name(digest, MEDIA_TYPES[kind])


def _is_delivered(data: bytes) -> bool:
    """Was the page of a record delivered? The original of one that waits for review may still be published."""
    try:
        result = JobRecord.model_validate_json(data).result
        return result.status == "success" and not result.awaits_review
    except ValidationError:
        return False
