"""Opening a book's archive by what it holds, never by its name."""

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
"""How an EPUB begins, 30 bytes into the file; one without a package is still no plain ZIP."""
_PICTURES: Final = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_HEAD: Final = 4096
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
        # A self-extracting ZIP begins with a program; its directory lies at the end.
        if error.code != "unsupported_archive":
            raise
        if not zipfile.is_zipfile(path):
            raise _no_archive(head) from None
    return _zip(path, head, settings)


def _no_archive(head: bytes) -> Rejected:
    """The error for a file that is no archive; it says what the file is, where that can be seen."""
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP" or head[4:8] == b"ftyp":
        return Rejected(
            "unsupported_archive", "This is a picture, not a book; 'panelworks enhance' enhances pages."
        )
    name = identify_format(head)
    if name is not None:
        return Rejected("unsupported_archive", f"This is {name}, no archive that is read here.")
    return Rejected(
        "unsupported_archive", "This is no archive that is read here, or it is damaged at its beginning."
    )


def _not_read(folder: Path) -> Iterator[Refusal]:
    """What lies in a folder of pages and is no file."""
    for entry in sorted(folder.iterdir()):
        name = path_to_text(entry.name)
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
