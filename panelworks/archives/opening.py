"""Opening a book's archive by what it holds, never by its name."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from panelworks.archives.epub import CONTAINER, NO_SPINE, EpubArchive
from panelworks.archives.folder import FolderArchive
from panelworks.archives.member import Archive, Refusal
from panelworks.archives.pdf import PdfArchive
from panelworks.archives.streamed import StreamedArchive
from panelworks.archives.zipped import ZipArchive
from panelworks.errors import Rejected
from panelworks.names import shown, text_of
from panelworks.settings import Settings
from panelworks.store.local import LocalFolder

_EPUB: Final = b"mimetypeapplication/epub+zip"
"""How an EPUB begins, 30 bytes into the file; one without a package is still no plain ZIP."""
_HEAD: Final = 1024
"""Bytes in which the signatures lie; a PDF may begin with a few others."""


def open_archive(path: Path, settings: Settings) -> Archive:
    """The archive at a path, or the folder of pages.

    Raises:
        Rejected: `not_found`, `empty`, `damaged`, `encrypted_archive`, `unsupported_archive`, `too_many_entries`,
            `too_large`.
        Misconfigured: `missing_library`, for RAR, 7Z and TAR.
    """
    if path.is_dir():
        return FolderArchive(LocalFolder(path), settings, tuple(_not_read(path)))
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        raise Rejected("not_found", f"There is no file at {shown(str(path))}.") from None
    except OSError as error:
        raise Rejected(
            "unreadable", f"{shown(str(path))} cannot be read ({type(error).__name__})."
        ) from error
    if not head:
        raise Rejected("empty", "The file is empty.")
    if head.startswith(b"PK"):
        return _zip(path, head, settings)
    if b"%PDF-" in head and not head.startswith((b"Rar!", b"7z")) and head[257:262] != b"ustar":
        return PdfArchive(path, settings)
    try:
        return StreamedArchive(path, settings)
    except Rejected as error:
        # A self-extracting ZIP begins with a program; its directory lies at the end.
        if error.code != "unsupported_archive" or not zipfile.is_zipfile(path):
            raise
    return _zip(path, head, settings)


def _not_read(folder: Path) -> Iterator[Refusal]:
    """What lies in a folder of pages and is no file."""
    for entry in sorted(folder.iterdir()):
        name = text_of(entry.name)
        if entry.is_symlink():
            yield Refusal(name=name, code="symlink", message="It is a link; it is left out.")
        elif entry.exists() and not entry.is_file() and not entry.is_dir():
            yield Refusal(name=name, code="no_file", message="It is a pipe, a socket or a device.")


def _zip(path: Path, head: bytes, settings: Settings) -> Archive:
    """A ZIP without its directory, as a transfer that broke off leaves it, is still read from the front."""
    try:
        archive = ZipArchive(path, settings)
    except Rejected as error:
        if error.code != "damaged":
            raise
        return StreamedArchive(path, settings)
    if any(member.name == CONTAINER for member in archive.members):
        return _epub(archive, settings)
    if head[30:].startswith(_EPUB):
        archive.refused = (*archive.refused, NO_SPINE)
    return archive


def _epub(archive: ZipArchive, settings: Settings) -> Archive:
    """An EPUB whose package or spine is damaged still gives its images."""
    try:
        return EpubArchive(archive, settings)
    except Rejected as error:
        if error.code == "damaged":
            archive.refused = (*archive.refused, NO_SPINE)
            return archive
        archive.close()
        raise
    except BaseException:
        archive.close()
        raise
