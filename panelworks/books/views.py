"""Views of the pages of finished books for screens: what was done to each, thumbnails, and tiles of source and result."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from panelworks import pictures
from panelworks.books.metadata import SIDECAR
from panelworks.books.pipeline import pages_of_file
from panelworks.books.shelf import open_book
from panelworks.domain.books import BookOptions, BookResult, PageState
from panelworks.domain.fields import Frozen, digest_of
from panelworks.domain.result import AppliedRule, ErrorInfo, Fallback
from panelworks.errors import Rejected
from panelworks.page.views import Layer, RecentPictures, cut_tile, make_thumbnail
from panelworks.pictures import Picture
from panelworks.settings import Settings
from panelworks.storage import open_folder
from panelworks.storage.atomic import writing
from panelworks.storage.location import Location
from panelworks.storage.s3 import S3Folder

_COPIES: Final = 2
"""Books of a bucket of which a copy is kept in the cache folder."""
_TIFF_SUFFIXES: Final = (".tif", ".tiff")


class BookPage(Frozen):
    """A page of a finished book, as its provenance file describes it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(validation_alias="source")
    """Name in the source."""
    files: tuple[str, ...] = ()
    """Entries of the finished book: one, several for a strip that was cut, none for a page that was lost."""
    state: PageState
    steps: tuple[dict[str, Any], ...] = ()
    decision: str | None = None
    rule: AppliedRule | None = None
    fallback: Fallback | None = None
    notes: tuple[str, ...] = ()
    error: ErrorInfo | None = None


class _Provenance(Frozen):
    """The provenance file of a book, as far as it is shown."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    options: dict[str, Any] = Field(default_factory=dict)
    pages: tuple[BookPage, ...] = ()


class BookViews:
    """Reads finished books. Pages that were looked at last stay decoded."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recent = RecentPictures()

    def pages(self, book: BookResult) -> tuple[BookPage, ...]:
        """The pages of a book in reading order.

        Raises:
            Rejected: `not_found`, its file is gone or is not one of ours. Transient: the bucket does not answer.
        """
        with self._open(book) as archive:
            return _provenance_of(archive).pages

    def options(self, book: BookResult) -> BookOptions:
        """The options with which a book was processed; the defaults if this release cannot read them.

        Raises:
            Rejected: `not_found`, its file is gone or is not one of ours.
        """
        with self._open(book) as archive:
            try:
                return BookOptions.model_validate(_provenance_of(archive).options)
            except ValidationError:
                return BookOptions()

    def file(self, book: BookResult, number: int) -> tuple[str, bytes]:
        """Name and bytes of a page in the finished book, whether it is a picture or not; of a strip that was cut, of its first part.

        Raises:
            Rejected: `not_found`, there is no such page, or it was lost.
        """
        with self._open(book) as archive:
            files = _page_of(archive, number).files
            if not files:
                raise _page_missing()
            return files[0], self._read(archive, files[0])

    def size(self, book: BookResult, number: int) -> tuple[int, int]:
        """Width and height of a page of the finished book, in pixels.

        Raises:
            Rejected: `not_found`, there is no such page, or it was lost.
        """
        with self._open(book) as archive:
            files = _page_of(archive, number).files
            headers = [pictures.read_header(self._read(archive, name), self._settings) for name in files]
        if not headers:
            raise _page_missing()
        return max(one.width for one in headers), sum(one.height for one in headers)

    def thumbnail(self, book: BookResult, number: int) -> bytes:
        """A page as a small WebP picture; of a strip that was cut, its first part.

        Raises:
            Rejected: as `size`, or the page is no picture.
        """
        with self._open(book) as archive:
            files = _page_of(archive, number).files
            if not files:
                raise _page_missing()
            data = self._read(archive, files[0])
        pictures.read_header(data, self._settings)  # refuses what is no picture, or has too many pixels
        try:
            return make_thumbnail(data)
        except OSError as error:
            raise Rejected("truncated", "This page cannot be shown: its data is damaged.") from error

    def tile(
        self, book: BookResult, number: int, layer: Layer, level: int, column: int, row: int
    ) -> tuple[bytes, str]:
        """Cut a tile of a page, as `PageViews.tile`; the source is read from its archive.

        Raises:
            Rejected: `not_found`, there is no such tile, or the archive is gone; or the page is no picture.
            Transient, Misconfigured: the archive or the bucket cannot be read.
        """
        size = self.size(book, number)
        name = f"{self._version_of(book)}/{number}/{layer}"
        load = self._master if layer == "master" else self._source
        return cut_tile(lambda: self._recent.get(name, lambda: load(book, number)), size, level, column, row)

    def _master(self, book: BookResult, number: int) -> Picture:
        with self._open(book) as archive:
            parts = [
                pictures.decode(self._read(archive, name), self._settings).picture
                for name in _page_of(archive, number).files
            ]
        return parts[0] if len(parts) == 1 else Picture(np.concatenate([part.pixels for part in parts]))

    def _source(self, book: BookResult, number: int) -> Picture:
        with self._open(book) as archive:
            provenance = _provenance_of(archive)
            name = _page_of(archive, number).name
        encoding = provenance.options.get("name_encoding")
        settings = self._settings.model_copy(update={"name_encoding": encoding} if encoding else {})
        with open_book(book.source, settings) as source:
            # A page of a TIFF with several pages has a name of its own.
            wanted = [one.index for one in source.members if one.name == name] or [
                one.index for one in source.members if one.name.lower().endswith(_TIFF_SUFFIXES)
            ]
            for member, content in source.read(wanted):
                for page, data in pages_of_file(member.name, content) if isinstance(content, bytes) else ():
                    if page == name:
                        return pictures.decode(data, self._settings).picture
        raise Rejected("not_found", "The archive no longer contains this page.")

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        """An entry of the book; somebody may have replaced the file by another one."""
        if archive.getinfo(name).file_size > self._settings.max_upload_bytes:
            raise Rejected("too_large", "This page of the book is too large to be shown.")
        return archive.read(name)

    @contextmanager
    def _open(self, book: BookResult) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._local_copy(book)) as archive:
                yield archive
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise Rejected("not_found", "The file of this book was removed or replaced.") from error

    def _local_copy(self, book: BookResult) -> Path:
        """The finished book on this machine. A book of a bucket is downloaded once."""
        place = Location.parse(book.place)
        if not place.is_in_bucket:
            return place.path
        parent, name = place.folder_and_name
        copies = self._settings.cache_dir / "books"
        copy = copies / f"{digest_of([book.place, self._version_of(book)])[:32]}.cbz"
        if not copy.exists():
            with writing(copy) as temporary:
                S3Folder(place.bucket, parent, self._settings).download(name, temporary)
            by_age = sorted(copies.glob("*.cbz"), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in by_age[_COPIES:]:
                old.unlink(missing_ok=True)
        return copy

    def _version_of(self, book: BookResult) -> str:
        parent, name = Location.parse(book.place).parent_and_name()
        found = open_folder(parent, self._settings).info(name)
        if found is None:
            raise Rejected("not_found", "The file of this book was removed or replaced.")
        return f"{book.place}-{found.version}"


def _provenance_of(archive: zipfile.ZipFile) -> _Provenance:
    try:
        return _Provenance.model_validate(json.loads(archive.read(SIDECAR)))
    except (ValueError, ValidationError) as error:
        raise Rejected("not_found", "This book was not written by this release of Panelworks.") from error


def _page_of(archive: zipfile.ZipFile, number: int) -> BookPage:
    pages = _provenance_of(archive).pages
    if not 0 <= number < len(pages):
        raise _page_missing()
    return pages[number]


def _page_missing() -> Rejected:
    return Rejected("not_found", "The book has no such page.")
