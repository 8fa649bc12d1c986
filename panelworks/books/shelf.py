"""Finding the books in a tree of folders or under a prefix, with the destination of each."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from panelworks.archives.folder import FolderArchive
from panelworks.archives.member import ARCHIVES, Archive
from panelworks.archives.naming import is_system_file, natural_key, safe_everywhere, unique
from panelworks.archives.opening import open_archive
from panelworks.domain.books import Refusal
from panelworks.domain.fields import Frozen, digest_of
from panelworks.errors import Misconfigured, Rejected
from panelworks.pictures import PICTURE_SUFFIXES
from panelworks.settings import Settings
from panelworks.storage import ObjectFolder, open_folder
from panelworks.storage.atomic import sweep, temporary_name
from panelworks.storage.folder import FileInfo
from panelworks.storage.local import LocalFolder
from panelworks.storage.location import Location
from panelworks.storage.s3 import S3Folder
from panelworks.text import (
    path_to_address,
    path_to_text,
    text_to_path,
    to_printable,
    to_storable,
)


@contextmanager
def spool(settings: Settings) -> Iterator[Path]:
    """Provide a temporary folder for a block. The folders of ended processes are removed first."""
    root = settings.cache_dir / "spool"
    sweep(root, deep=False)
    folder = root / temporary_name()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class ShelvedBook(Frozen):
    """A book that was found."""

    source: str
    """Path or s3:// address of its archive, or of its folder of pages."""
    name: str
    """Path of the finished book, relative to the destination; the tree of folders is preserved."""
    bytes: int
    fingerprint: str
    """Changes with the book. It is computed from sizes and modification times, without reading the files."""


def find_books(root: str, settings: Settings, *, without: str | None = None) -> list[ShelvedBook]:
    """The books under a folder or prefix, or the one book at a path, in natural order.

    A file with the extension of an archive is a book, and so is a folder that directly contains pictures. Everything under
    `without`, the destination of finished books, is skipped.

    Raises:
        Rejected: `not_found`.
        Misconfigured: `out_is_source`, finished books would be written among their sources.
    """
    place = Location.parse(root)
    if not place.is_in_bucket:
        path = place.absolute_path
        if path.is_file():
            found = path.stat()
            file = FileInfo(path_to_text(path.name), found.st_size, str(found.st_mtime_ns), found.st_mtime)
            return _shelved([(path_to_text(path), file.name, [file])])
        if not path.is_dir():
            raise Rejected("not_found", f"There is no folder and no book at {to_printable(root)}.")
        root = path_to_text(path)
    elif PurePosixPath(root).suffix.lower() in ARCHIVES:
        parent, name = place.folder_and_name
        files = [file for file in S3Folder(place.bucket, parent, settings).files(name) if file.name == name]
        if not files:
            raise Rejected("not_found", f"There is no object {root}.")
        return _shelved([(root, name, files)])
    excluded = _relative_to(root, without)
    if excluded == "":
        raise Misconfigured(
            "out_is_source", "Finished books need a folder of their own; choose another --out."
        )
    folder = open_folder(place, settings) if place.is_in_bucket else LocalFolder(text_to_path(root))
    return _shelved(_found(root, folder.files(), excluded))


def skipped_entries(root: str, *, without: str | None = None) -> tuple[Refusal, ...]:
    """The entries of a folder that are skipped: unreadable folders and books, links, pipes; empty for a bucket."""
    place = Location.parse(root)
    if place.is_in_bucket:
        return ()
    path = place.absolute_path
    if not path.is_dir():
        return ()
    excluded, wanted = _relative_to(path_to_text(path), without), (*ARCHIVES, *PICTURE_SUFFIXES)
    return tuple(
        Refusal(name=one.name, code=one.code, message=one.message)
        for one in sorted(LocalFolder(path).skipped_entries())
        if not is_system_file(one.name)
        and not (excluded and f"{one.name}/".startswith(f"{excluded}/"))
        and (one.is_folder or PurePosixPath(one.name).suffix.lower() in wanted)
    )


def _relative_to(root: str, out: str | None) -> str | None:
    """The path of `out` relative to `root`; None if it is not inside."""
    if out is None or Location.parse(out).is_in_bucket != Location.parse(root).is_in_bucket:
        return None
    if not Location.parse(out).is_in_bucket:
        root, out = (
            path_to_text(text_to_path(root).resolve()),
            path_to_text(Location.parse(out).absolute_path.resolve()),
        )
    inside, base = f"{out.rstrip('/')}/", f"{root.rstrip('/')}/"
    return inside.removeprefix(base).rstrip("/") if inside.startswith(base) else None


def _found(
    root: str, files: Iterable[FileInfo], excluded: str | None
) -> list[tuple[str, str, list[FileInfo]]]:
    """Address, name and files of each book."""
    found, folders = [], dict[str, list[FileInfo]]()
    for file in files:
        if is_system_file(file.name) or (excluded and file.name.startswith(f"{excluded}/")):
            continue
        path = PurePosixPath(file.name)
        if path.suffix.lower() in ARCHIVES:
            found.append((f"{root.rstrip('/')}/{file.name}", file.name, [file]))
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            folders.setdefault(str(path.parent), []).append(file)
    shelves = {str(PurePosixPath(name).parent) for _, name, _ in found}
    for folder, pages in folders.items():
        if folder in shelves and all(_is_poster(page.name) for page in pages):
            continue
        here = folder == "."
        name = f"{PurePosixPath(root).name or 'book'}.cbz" if here else f"{folder}.folder"
        found.append((root if here else f"{root.rstrip('/')}/{folder}", name, pages))
    return sorted(found, key=lambda book: natural_key(book[1]))


def _is_poster(name: str) -> bool:
    """Is this a cover picture that programs store next to archives? It is not a page."""
    return PurePosixPath(name).stem.lower() in ("cover", "folder", "poster", "banner", "thumbnail", "thumb")


def _shelved(found: list[tuple[str, str, list[FileInfo]]]) -> list[ShelvedBook]:
    """Build the records. Books with equal names and different extensions keep their extension in the name of the result."""
    plain = [str(PurePosixPath(name).with_suffix(".cbz")) for _, name, _ in found]
    lowered = [name.casefold() for name in plain]
    names = [
        short if lowered.count(short.casefold()) == 1 or name.lower().endswith(".cbz") else f"{name}.cbz"
        for short, (_, name, _) in zip(plain, found, strict=True)
    ]
    return [
        ShelvedBook(
            source=source if Location.parse(source).is_in_bucket else path_to_address(text_to_path(source)),
            name=name,
            bytes=sum(file.bytes for file in files),
            fingerprint=digest_of(
                sorted(
                    (to_storable(file.name.rpartition("/")[2]), file.bytes, file.version) for file in files
                )
            )[:32],
        )
        for name, (source, _, files) in zip(unique(map(safe_everywhere, names)), found, strict=True)
    ]


@contextmanager
def open_book(source: str, settings: Settings) -> Iterator[Archive]:
    """Open the archive of a book for a block. An S3 object is downloaded to a temporary folder.

    Raises:
        Rejected, Transient, Misconfigured: the archive or the bucket cannot be read.
    """
    book = Location.parse(source)
    if not book.is_in_bucket:
        with open_archive(book.path, settings) as archive:
            yield archive
        return
    if PurePosixPath(book.key).suffix.lower() not in ARCHIVES:
        folder: ObjectFolder = S3Folder(book.bucket, book.key.strip("/"), settings)
        with FolderArchive(folder, settings) as archive:
            yield archive
        return
    with spool(settings) as place:
        copy = place / "book"
        parent, name = book.folder_and_name
        S3Folder(book.bucket, parent, settings).download(name, copy)
        with open_archive(copy, settings) as archive:
            yield archive
