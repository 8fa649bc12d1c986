"""Reading the form of a batch: pictures, ZIP archives and a manifest become rows with sources.

Pictures are stored at once, so that a row names its page whichever gateway starts it. Archives are read with the limits of
books. Only what is a picture in a supported format is stored.
"""

import hashlib
import shutil
import tempfile
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from panelworks import pictures
from panelworks.archives.member import Member
from panelworks.archives.naming import may_be_picture, skipped_note
from panelworks.archives.zipped import ZipArchive
from panelworks.domain.books import Refusal
from panelworks.domain.fields import check_text, digest_of
from panelworks.domain.formats import MEDIA_TYPES
from panelworks.domain.manifest import (
    MANIFEST_NAMES,
    MAX_MANIFEST_BYTES,
    ManifestRow,
    read_manifest,
    too_many_rows,
)
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import ErrorInfo
from panelworks.errors import PanelworksError, Rejected, UnknownName
from panelworks.page.batches import BatchRow
from panelworks.page.engine import Engine
from panelworks.page.entry_points import admit
from panelworks.page.rules import check_plan
from panelworks.settings import Settings
from panelworks.sources.fetch import fetch
from panelworks.sources.stored import parse_stored, stored_source, upload_missing

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_UNPACKED_PER_UPLOAD: Final = 8
"""An upload may unpack to this many times the limit of its body."""
_MAX_NAME_CHARACTERS: Final = 500
_ADDRESSES: Final = ("https://", "http://", "s3://", "data:", "stored:", "file:", "/")


@dataclass(frozen=True)
class FormFile:
    """A file of a form."""

    name: str
    file: IO[bytes]

    @property
    def is_zip(self) -> bool:
        """Is it a ZIP archive, by its content?"""
        self.file.seek(0)
        head = self.file.read(4)
        self.file.seek(0)
        return head in _ZIP


@dataclass(frozen=True)
class Place:
    """Who posts a batch, and where its pages are delivered."""

    batch_id: str
    out: str
    origin: Origin
    options: EnhanceOptions
    reads_all_uploads: bool
    """May the caller name the uploads of other keys?"""


@dataclass(frozen=True)
class Intake:
    """The rows of a batch."""

    rows: tuple[BatchRow, ...]
    options: tuple[EnhanceOptions, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """A file of the form, or a member of an archive in it."""

    name: str
    file: FormFile | None = None
    archive: ZipArchive | None = None
    member: Member | None = None
    refusal: Refusal | None = None


def take_batch(files: Sequence[FormFile], manifest: bytes | None, place: Place, engine: Engine) -> Intake:
    """Store the pictures of a form, and return the rows of its batch.

    Without a manifest, each picture is a row, also each in an archive, and the manifest of an archive is used.

    Raises:
        Rejected: the whole batch is refused: `bad_manifest`, `too_many_rows`, `bad_request`, or an archive that cannot be read;
            `UnsafeSource`, the place to deliver to is not allowed.
    """
    settings = engine.settings
    admit(PageRequest(source="stored:", out=place.out, job_id=place.batch_id, origin=place.origin), settings)
    with ExitStack() as stack:
        found = list(_find_files(files, stack, settings))
        if manifest is None:
            manifest, folder, found = _take_manifest(found)
        else:
            folder = ""
        rows = _Rows(place, engine)
        if manifest is None:
            found = rows.skip_others(found)
            if len(found) > settings.max_batch_rows:
                raise too_many_rows(settings.max_batch_rows)
            if not found:
                raise Rejected("bad_request", "The batch holds no pictures.")
            rows.add_files(found)
        else:
            rows.add_manifest(read_manifest(manifest, max_rows=settings.max_batch_rows), found, folder)
    return Intake(tuple(rows.rows), tuple(rows.options), tuple(rows.notes))


def _find_files(files: Sequence[FormFile], stack: ExitStack, settings: Settings) -> Iterator[_Found]:
    """The files of the form, and the members of its archives in natural order.

    Raises:
        Rejected: an archive cannot be read, or has too many entries.
    """
    limit = min(settings.max_archive_bytes, _UNPACKED_PER_UPLOAD * settings.max_upload_bytes)
    limited = settings.model_copy(update={"max_archive_bytes": limit})
    for file in files:
        if not file.is_zip:
            yield _Found(file.name, file=file)
            continue
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="panelworks-")))
        with (folder / "batch.zip").open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
        archive = stack.enter_context(ZipArchive(folder / "batch.zip", limited))
        for refusal in archive.refused:
            yield _Found(refusal.name, refusal=refusal)
        for member in archive.members:
            yield _Found(member.name, archive=archive, member=member)


def _take_manifest(found: list[_Found]) -> tuple[bytes | None, str, list[_Found]]:
    """The manifest of an archive, its folder there, and the other files; None if there is no manifest.

    Raises:
        Rejected: it cannot be read.
    """
    for one in found:
        folder, _, name = one.name.rpartition("/")
        if one.member is not None and name.lower() in MANIFEST_NAMES:
            if one.member.bytes is not None and one.member.bytes > MAX_MANIFEST_BYTES:
                raise Rejected("too_large", "The manifest in the archive is too large.")
            return _read(one), f"{folder}/" if folder else "", [other for other in found if other is not one]
    return None, "", found


def _read(one: _Found, settings: Settings | None = None) -> bytes:
    """The bytes of a file.

    Raises:
        Rejected: it cannot be read, or is too large.
    """
    if one.refusal is not None:
        raise Rejected(one.refusal.code, one.refusal.message)
    if one.archive is not None and one.member is not None:
        _, content = next(iter(one.archive.read({one.member.index})))
        if isinstance(content, Rejected):
            raise content
        return content
    if one.file is None or settings is None:
        raise Rejected("not_found", "The file cannot be read.")
    one.file.file.seek(0)
    data = one.file.file.read(settings.max_source_bytes + 1)
    if len(data) > settings.max_source_bytes:
        raise Rejected("too_large", f"A picture has at most {settings.max_source_bytes / 2**20:.0f} MiB.")
    return data


class _Rows:
    """The rows of a batch while they are made."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self.rows: list[BatchRow] = []
        self.options: list[EnhanceOptions] = [place.options]
        self.notes: list[str] = []
        self._place = place
        self._engine = engine
        self._index: dict[str, int] = {place.options.model_dump_json(): 0}
        self._problems: dict[int, ErrorInfo | None] = {}

    def skip_others(self, found: Sequence[_Found]) -> list[_Found]:
        """The files without members of archives that are not named as pictures, which are noted."""
        others = [one.name for one in found if one.archive is not None and not may_be_picture(one.name)]
        if others:
            self.notes.append(skipped_note(others))
        return [one for one in found if one.archive is None or may_be_picture(one.name)]

    def add_files(self, found: Sequence[_Found]) -> None:
        """A row for each file."""
        for number, one in enumerate(found, start=1):
            self._add(number, one.name, None, self._place.options, lambda one=one: self._store(one))  # type: ignore[misc]

    def add_manifest(self, rows: Sequence[ManifestRow], found: Sequence[_Found], folder: str) -> None:
        """The rows of a manifest, which name files and addresses."""
        files: dict[str, list[_Found]] = {}
        for one in found:
            files.setdefault(unicodedata.normalize("NFC", one.name), []).append(one)
        named: set[str] = set()
        for row in rows:
            if row.error is not None:
                self.rows.append(
                    BatchRow(row=row.row, name=row.source or "-", source="", job_id="", error=row.error)
                )
                continue
            options = row.options.with_defaults_from(self._place.options)
            self._add(
                row.row,
                row.source,
                row.job_id,
                options,
                lambda row=row: self._locate(row.source, files, folder, named),  # type: ignore[misc]
            )
        unused = len(files) - len(named)
        if unused:
            self.notes.append(f"{unused} {'file is' if unused == 1 else 'files are'} named by no row.")

    def _add(
        self, number: int, name: str, job_id: str | None, options: EnhanceOptions, locate: Callable[[], str]
    ) -> None:
        shown = name if not name.startswith("data:") else "data:…"
        job_id = job_id or str(uuid.uuid5(uuid.NAMESPACE_OID, digest_of([*self._identity, number])))
        row = BatchRow(
            row=number,
            name=shown[:_MAX_NAME_CHARACTERS],
            source="",
            job_id=job_id,
            options=self._index_of(options),
        )
        try:
            source = locate()
            request = PageRequest(
                source=source, out=self._place.out, options=options, job_id=job_id, origin=self._place.origin
            )
            admit(request, self._engine.settings)
            problem = self._problem_of(row.options)
        except (Rejected, UnknownName) as error:
            source, problem = "", ErrorInfo.of(error)
        self.rows.append(row.model_copy(update={"source": source, "error": problem}))

    @property
    def _identity(self) -> tuple[str | None, str]:
        return self._place.origin.owner, self._place.batch_id

    def _index_of(self, options: EnhanceOptions) -> int:
        text = options.model_dump_json()
        if text not in self._index:
            self._index[text] = len(self.options)
            self.options.append(options)
        return self._index[text]

    def _problem_of(self, index: int) -> ErrorInfo | None:
        """Why no page can be processed with these options; each is checked once."""
        if index not in self._problems:
            try:
                check_plan(self.options[index], self._engine.settings)
                self._problems[index] = None
            except (Rejected, UnknownName) as error:
                self._problems[index] = ErrorInfo.of(error)
            except PanelworksError:
                self._problems[index] = None  # of this server: the runs of the pages report it
        return self._problems[index]

    def _locate(self, name: str, files: dict[str, list[_Found]], folder: str, named: set[str]) -> str:
        """The source that a row of a manifest names.

        Raises:
            Rejected: there is no such file; it is no picture; the address is not allowed.
        """
        plain = unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")
        for candidate in (f"{folder}{plain}", plain):
            if candidate in files:
                named.add(candidate)
                if len(files[candidate]) > 1:
                    raise Rejected("ambiguous_name", "Several files have this name.")
                return self._store(files[candidate][0])
        if not name.startswith(_ADDRESSES):
            raise Rejected("not_found", "No file of this name was uploaded.")
        if name.startswith("data:"):
            return self._store_picture("page", fetch(name, self._engine.settings).data)
        if name.startswith("stored:"):
            self._check_upload(name)
        return name

    def _check_upload(self, source: str) -> None:
        digest, _, _ = parse_stored(source)
        owner = self._place.origin.owner
        if owner is None or self._place.reads_all_uploads:
            return
        if not self._engine.accepted.may_name_upload(owner, digest):
            raise upload_missing()

    def _store(self, one: _Found) -> str:
        """Store a file that is a picture; returns its source.

        Raises:
            Rejected: it cannot be read, or is no picture.
        """
        return self._store_picture(one.name, _read(one, self._engine.settings))

    def _store_picture(self, name: str, data: bytes) -> str:
        header = pictures.read_header(data, self._engine.settings)
        self._engine.store.put(data, MEDIA_TYPES[header.format], (header.width, header.height))
        digest = hashlib.sha256(data).hexdigest()
        self._engine.accepted.grant_upload(self._place.origin.owner, digest)
        return stored_source(digest, header.format, check_text(name))
