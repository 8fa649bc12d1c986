"""Opening the archive of a book by its content, never by its name."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from panelworks.archives.epub import CONTAINER, NO_SPINE, EpubArchive
from panelworks.archives.folder import FolderArchive
from panelworks.archives.member import Archive
from panelworks.archives.pdf import PdfArchive
from panelworks.archives.streamed import StreamedArchive
from panelworks.archives.zipped import ZipArchive
from panelworks.domain.books import Refusal
from panelworks.errors import NOT_READABLE, Rejected
from panelworks.pictures.identify import identify_format
from panelworks.pictures.tiff_directories import SIGNATURES as TIFF_SIGNATURES
from panelworks.settings import Settings
from panelworks.storage.local import LocalFolder
from panelworks.text import path_to_text, to_printable

_EPUB: Final = b"mimetypeapplication/epub+zip"
"""Content of an EPUB from byte 30 on. An EPUB without a package is still not a plain ZIP."""
_PICTURES: Final = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_HEAD_BYTES: Final = 4096
"""Bytes that are searched for signatures; a PDF may start with other bytes."""


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
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise Rejected("not_found", f"There is no file at {to_printable(str(path))}.") from None
    except OSError as error:
        raise Rejected(
            NOT_READABLE,
            f"{to_printable(str(path))} cannot be read ({error.strerror or type(error).__name__}).",
        ) from error
    if not head:
        raise Rejected("empty", "The file is empty.")
    if head.startswith(b"PK"):
        return _zip(path, head, settings)
    if b"%PDF-" in head and not head.startswith((b"Rar!", b"7z")) and head[257:262] != b"ustar":
        return PdfArchive(path, settings)
    if head.startswith(TIFF_SIGNATURES):
        return FolderArchive(LocalFolder(path.parent), settings, only=path_to_text(path.name))
    try:
        return StreamedArchive(path, settings)
    except Rejected as error:
        # A self-extracting ZIP starts with a program; its directory is at the end.
        if error.code != "unsupported_archive":
            raise
        if not zipfile.is_zipfile(path):
            raise _no_archive(head) from None
    return _zip(path, head, settings)


def _no_archive(head: bytes) -> Rejected:
    """The error for a file that is not an archive, with its actual format if that is known."""
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP" or head[4:8] == b"ftyp":
        return Rejected(
            "unsupported_archive", "This is a picture, not a book; 'panelworks enhance' enhances pages."
        )
    name = identify_format(head)
    if name is not None:
        return Rejected("unsupported_archive", f"This is {name}, not a supported archive.")
    return Rejected("unsupported_archive", "This is not a supported archive, or its beginning is damaged.")


def _not_read(folder: Path) -> Iterator[Refusal]:
    """The entries of a folder of pages that are not files."""
    for entry in sorted(folder.iterdir()):
        name = path_to_text(entry.name)
        if entry.is_symlink():
            yield Refusal(name=name, code="symlink", message="It is a link and was skipped.")
        elif entry.exists() and not entry.is_file() and not entry.is_dir():
            yield Refusal(name=name, code="no_file", message="It is a pipe, a socket or a device.")


def _zip(path: Path, head: bytes, settings: Settings) -> Archive:
    """Open a ZIP. A ZIP without its directory, as after an interrupted transfer, is read as a stream."""
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
    """Open an EPUB. If its package or spine is damaged, its images are read in the order of their names."""
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
