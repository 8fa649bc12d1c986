"""Batches of the command line: the pages of a folder, of a ZIP archive or of a manifest."""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from panelworks import pictures
from panelworks.archives.member import Archive, Member
from panelworks.cli.output import argument_to_address
from panelworks.domain.formats import MEDIA_TYPES
from panelworks.domain.manifest import (
    MANIFEST_NAMES,
    MANIFEST_SUFFIXES,
    MAX_MANIFEST_BYTES,
    ManifestRow,
    read_manifest,
)
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import ErrorInfo
from panelworks.errors import NOT_READABLE, Rejected
from panelworks.page.engine import get_engine
from panelworks.settings import Settings
from panelworks.sources.stored import stored_source
from panelworks.text import address_to_path, path_to_address, path_to_text, to_printable

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_BOOKS: Final = (".cbz", ".epub")
"""ZIP archives that `panelworks backfill` enhances as a whole."""
_SCHEMES: Final = ("https://", "http://", "s3://", "data:", "file://", "stored:")


@dataclass(frozen=True)
class Page:
    """A page to enhance."""

    name: str
    """The source as it was given."""
    address: str = ""
    """Empty for a member of an archive, which `open_page` stores first."""
    row: int | None = None
    """Row of the manifest; None for other sources."""
    job_id: str | None = None
    options: EnhanceOptions | None = None
    """What the row states; None: the options of the command."""
    error: ErrorInfo | None = None
    """Why the row cannot be used."""
    archive: Archive | None = None
    member: Member | None = None


@dataclass(frozen=True)
class PageList:
    """The pages that the arguments of the command name."""

    pages: tuple[Page, ...]
    is_batch: bool
    """Was a folder, an archive or a manifest given?"""


def list_pages(sources: Iterable[str], stack: ExitStack, settings: Settings) -> PageList:
    """The pages of all sources. Archives are open until the end of `stack`.

    A folder, archive or manifest that cannot be used is a page with an error.
    """
    pages: list[Page] = []
    is_batch = False
    for source in sources:
        found = _pages_of(source, stack, settings)
        is_batch = is_batch or found is not None
        pages += [Page(source, source)] if found is None else found
    return PageList(tuple(pages), is_batch)


def open_page(page: Page) -> str:
    """The address of a page. A member of an archive is stored first, under its name.

    Raises:
        Rejected: the member cannot be read, or is no picture.
        Misconfigured, Transient: the store cannot be written to.
    """
    if page.archive is None or page.member is None:
        return page.address
    _, content = next(iter(page.archive.read({page.member.index})))
    if isinstance(content, Rejected):
        raise content
    engine = get_engine()
    header = pictures.read_header(content, engine.settings)
    engine.store.put(content, MEDIA_TYPES[header.format], (header.width, header.height))
    return stored_source(hashlib.sha256(content).hexdigest(), header.format, page.member.name)


def _pages_of(source: str, stack: ExitStack, settings: Settings) -> list[Page] | None:
    """The pages of a folder, archive or manifest; None if the source is one page."""
    if source.startswith(_SCHEMES) and not source.startswith("file://"):
        return None
    path = address_to_path(source)
    try:
        if path.is_dir():
            return _pages_of_folder(path, settings)
        if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
            with path.open("rb") as file:
                return _pages_of_manifest(file.read(MAX_MANIFEST_BYTES + 1), path.parent, settings)
        if path.suffix.lower() not in _BOOKS and path.is_file() and _is_zip(path):
            return _pages_of_archive(path, stack, settings)
    except Rejected as error:
        return [Page(source, error=ErrorInfo.of(error))]
    except OSError as error:
        message = f"{_shown(path)} cannot be read ({error.strerror or type(error).__name__})."
        return [Page(source, error=ErrorInfo(code=NOT_READABLE, message=message, fault="input"))]
    except ValueError:
        return None  # no path: the source is refused as a page
    return None


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _ZIP


def _shown(path: Path) -> str:
    return to_printable(path_to_text(path))


def _pages_of_folder(folder: Path, settings: Settings) -> list[Page]:
    """The pictures in a folder and below it, in natural order; the rows of its manifest if it has one."""
    from panelworks.archives.naming import in_natural_order, is_system_file, may_be_picture

    for name in MANIFEST_NAMES:
        if (folder / name).is_file():
            data = (folder / name).read_bytes()[: MAX_MANIFEST_BYTES + 1]
            return _pages_of_manifest(data, folder, settings)
    files = {path_to_text(path.relative_to(folder)): path for path in _files_below(folder)}
    names = in_natural_order(name for name in files if not is_system_file(name))
    pages = [name for name in names if may_be_picture(name)]
    _report_skipped([name for name in names if not may_be_picture(name)])
    if not pages:
        books = any(Path(name).suffix.lower() in _BOOKS for name in names)
        more = " Books are processed by 'panelworks backfill'." if books else ""
        raise Rejected("bad_batch", f"There are no pictures in this folder.{more}")
    _check_count(len(pages), settings)
    return [Page(path_to_address(files[name]), path_to_address(files[name])) for name in pages]


def _files_below(folder: Path) -> Iterator[Path]:
    """The files below a folder. Links to folders are not followed: they may lead back."""
    for parent, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(parent) / name).is_file())


def _pages_of_archive(path: Path, stack: ExitStack, settings: Settings) -> list[Page]:
    """The pictures in a ZIP archive, in natural order; the rows of its manifest if it has one."""
    from panelworks.archives.naming import may_be_picture
    from panelworks.archives.zipped import ZipArchive

    archive = stack.enter_context(ZipArchive(path, settings))
    shown = _shown(path)
    members = {member.name: member for member in archive.members}
    for member in archive.members:
        folder, _, name = member.name.rpartition("/")
        if name.lower() in MANIFEST_NAMES:
            _, content = next(iter(archive.read({member.index})))
            if isinstance(content, Rejected):
                raise content
            rows = read_manifest(content, max_rows=settings.max_batch_rows)
            return [_page_of_member(row, archive, members, f"{folder}/" if folder else "") for row in rows]
    pages = [member for member in archive.members if may_be_picture(member.name)]
    _report_skipped([member.name for member in archive.members if not may_be_picture(member.name)])
    refused = [
        Page(f"{shown}: {one.name}", error=ErrorInfo(code=one.code, message=one.message, fault="input"))
        for one in archive.refused
    ]
    if not pages and not refused:
        raise Rejected("bad_batch", "There are no pictures in this archive.")
    _check_count(len(pages), settings)
    return [*refused, *(Page(f"{shown}: {one.name}", archive=archive, member=one) for one in pages)]


def _page_of_member(row: ManifestRow, archive: Archive, members: dict[str, Member], folder: str) -> Page:
    """The page of a row of an archive's manifest, which names members and addresses."""
    if row.error is not None or row.source.startswith(_SCHEMES):
        return _page_of_row(row, row.source)
    name = row.source.replace("\\", "/").removeprefix("./")
    member = members.get(folder + name) or members.get(name)
    if member is None:
        missing = ErrorInfo(
            code="not_found", message="No file of this name is in the archive.", fault="input"
        )
        return Page(row.source, row=row.row, error=missing)
    return Page(
        row.source, row=row.row, job_id=row.job_id, options=row.options, archive=archive, member=member
    )


def _pages_of_manifest(data: bytes, folder: Path, settings: Settings) -> list[Page]:
    """The rows of a manifest. Paths in it are relative to its folder."""
    rows = read_manifest(data, max_rows=settings.max_batch_rows)
    return [
        _page_of_row(
            row,
            row.source
            if row.source.startswith(_SCHEMES)
            else argument_to_address(str(folder / row.source.replace("\\", "/"))),
        )
        for row in rows
    ]


def _page_of_row(row: ManifestRow, address: str) -> Page:
    if row.error is not None:
        return Page(row.source, row=row.row, error=row.error)
    return Page(row.source, address, row=row.row, job_id=row.job_id, options=row.options)


def _check_count(count: int, settings: Settings) -> None:
    if count > settings.max_batch_rows:
        raise Rejected(
            "too_many_rows",
            f"It has more than {settings.max_batch_rows} pictures, which is the limit (PANELWORKS_MAX_BATCH_ROWS).",
        )


def _report_skipped(names: list[str]) -> None:
    if names:
        from panelworks.archives.naming import skipped_note

        print(skipped_note(names), file=sys.stderr)
