"""The file of a backup: a compressed tar. Its last member, the manifest, lists the others with their checksums.

A file that was cut off has no manifest, so that it cannot be mistaken for a complete one.
"""

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Literal

from pydantic import AwareDatetime, ValidationError

from panelworks.domain.fields import Frozen
from panelworks.errors import Misconfigured

FORMAT: Final = 1
"""Version of the file's format. Increase it when an earlier release cannot restore the file correctly."""
_MANIFEST: Final = "manifest.json"
_COMPRESSION_LEVEL: Final = 3
"""Of gzip: a database shrinks to a fifth, and a higher level takes several times as long for little."""
_MODE: Final = 0o600
"""The file contains the secrets of blocks, the key that decrypts them, and the auth string."""
_BLOCK_BYTES: Final = 1 << 20


class Member(Frozen):
    """A file in a backup."""

    bytes: int
    sha256: str


class Manifest(Frozen):
    """What a backup contains, and what made it."""

    format: int
    created_at: AwareDatetime
    host: str
    panelworks: str
    engine: str
    prefect: str
    database: Literal["sqlite", "postgres"]
    schema_revision: str
    """Revision of the tables, as Prefect's migrations name it."""
    key_digest: str | None
    """Start of the digest of the environment's encryption key; None if the key is in the database."""
    store: str
    ledger: str
    members: dict[str, Member]

    def count(self, under: str) -> int:
        """Number of members whose names begin with `under`."""
        return sum(name.startswith(under) for name in self.members)


class BackupWriter:
    """Adds files to a backup."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.members: dict[str, Member] = {}

    def add(self, name: str, data: bytes) -> None:
        """Add a small file."""
        self.members[name] = Member(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        self._tar.addfile(_entry(name, len(data)), io.BytesIO(data))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file of any size. It must not change meanwhile."""
        with path.open("rb") as file:
            digest, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
            file.seek(0)
            self.members[name] = Member(bytes=size, sha256=digest)
            self._tar.addfile(_entry(name, size), file)

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest. Nothing can be added after it."""
        data = manifest.model_dump_json(indent=1).encode()
        self._tar.addfile(_entry(_MANIFEST, len(data)), io.BytesIO(data))


@contextmanager
def writing_backup(path: Path) -> Iterator[BackupWriter]:
    """Write the file at `path`, which must not exist; readable by this user only."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    with (
        os.fdopen(handle, "wb") as raw,
        tarfile.open(fileobj=raw, mode="w:gz", compresslevel=_COMPRESSION_LEVEL) as tar,
    ):
        yield BackupWriter(tar)


def verify_backup(path: Path) -> Manifest:
    """Read the whole file and compare every member with the manifest; returns the manifest.

    Raises:
        Misconfigured: `bad_backup`, it is incomplete, damaged or no backup; `newer_backup`, a later release made it;
            `no_backup`, there is no such file.
    """
    found: dict[str, Member] = {}
    manifest = None
    with _reading(path):
        for name, file in read_members(path):
            if name == _MANIFEST:
                manifest = _parse_manifest(path, file.read())
                continue
            digest, size = hashlib.sha256(), 0
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
            found[name] = Member(bytes=size, sha256=digest.hexdigest())
    if manifest is None:
        raise Misconfigured("bad_backup", f"{path} is not a complete backup: it has no manifest.")
    different = sorted(
        name for name in {*found, *manifest.members} if found.get(name) != manifest.members.get(name)
    )
    if different:
        raise Misconfigured("bad_backup", f"{path} is damaged: {different[0]} differs from the manifest.")
    return manifest


def read_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The names and contents of the files in a backup, in their order. Each must be read before the next one.

    Raises:
        Misconfigured: `bad_backup`, `no_backup`.
    """
    with _reading(path), tarfile.open(path, "r|gz") as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            if file is not None:
                yield entry.name, file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert the errors of reading a file, also those of reading a member later."""
    try:
        yield
    except FileNotFoundError as error:
        raise Misconfigured("no_backup", f"There is no file {path}.") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise Misconfigured("bad_backup", f"{path} is damaged or no backup ({error}).") from error
    except OSError as error:
        raise Misconfigured("bad_backup", f"{path} cannot be read ({error}).") from error


def backup_name(moment: datetime) -> str:
    """Name of the file of a backup that begins at this moment; names sort by time."""
    return f"panelworks-{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}.tar.gz"


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    try:
        fields = json.loads(data)
        number = fields["format"]
        if number > FORMAT:
            raise Misconfigured(
                "newer_backup",
                f"{path} was made by Panelworks {fields.get('panelworks')}, whose backups this release"
                " cannot restore; restore it with that release.",
            )
        return Manifest.model_validate(fields)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise Misconfigured("bad_backup", f"{path} is damaged: its manifest cannot be read.") from error


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, _MODE
    return entry
