"""EPUB: the images of its pages, in the order of its spine. A child process parses XML and HTML."""

import time
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from panelworks.archives.member import ArchiveKind, BookInfo, ClosingArchive, Content, Member, Meter
from panelworks.archives.sandbox import TOO_COSTLY, Sandbox
from panelworks.archives.sandbox_child import Limits
from panelworks.archives.zipped import ZipArchive
from panelworks.domain.books import Refusal
from panelworks.errors import Rejected
from panelworks.pictures import PICTURE_SUFFIXES
from panelworks.settings import Settings

CONTAINER: Final = "META-INF/container.xml"
"""The member that makes a ZIP an EPUB."""
NO_SPINE: Final = Refusal(
    name="(the order of the pages)",
    code="no_spine",
    message="The order of the pages is missing or cannot be read; the pages are in the order of their names.",
)
_ENCRYPTION: Final = "META-INF/encryption.xml"
_DRAWN: Final = "image/"
_SVG: Final = "image/svg+xml"
_DOCUMENT_SUFFIXES: Final = frozenset({".svg", ".xhtml", ".html", ".htm", ".xml"})
_SUFFIXES: Final = {"image/jpeg": ".jpg", "image/jpg": ".jpg", "image/svg+xml": ".svg"}
"""Extensions of embedded pictures whose media type does not end in one."""
_PACKAGE_PARSER: Final = "panelworks.archives.parsers.epub"
_PAGE_PARSER: Final = "panelworks.archives.parsers.epub_page"
_BATCH_PAGES: Final = 100
_BATCH_BYTES: Final = 8 << 20
_MAX_STYLE_BYTES: Final = 4 << 20
"""All style sheets of a book together. If they are larger, none is read."""
_OUTPUT_BYTES: Final = 32 << 20
_MAX_NESTING: Final = 3
"""Levels of documents within documents that are followed from a page."""
_MAX_REFERENCES_PER_ENTRY: Final = 10
"""Images that the pages may refer to, for each entry that an archive may have."""
_MAX_LISTED: Final = 50
"""Files that a note lists."""
_ENCRYPTED: Final = "It is encrypted (META-INF/encryption.xml); unlock the EPUB first."


@dataclass(frozen=True)
class _Source:
    """The source of a page: a member of the ZIP, or a picture embedded in a document."""

    name: str
    member: Member | None = None
    document: str = ""
    number: int = 0
    """Number of the picture in the document."""


@dataclass
class _Document:
    """The content of a document of the EPUB."""

    readable: bool
    drawing: bool
    shows: list[list[Any]]


@dataclass
class _Shown:
    """The pictures that a document shows, including its inner documents."""

    sources: dict[_Source, None] = field(default_factory=dict)
    is_drawing: bool = False
    """Does it contain an SVG drawing?"""
    is_incomplete: bool = False
    """Is a part of it in the losses?"""


@dataclass
class _Losses:
    """Content that the book lacks, with the reasons."""

    refused: dict[tuple[str, str], Refusal] = field(default_factory=dict)
    is_page_lost: bool = False
    """Is the content of a page unknown?"""
    texts: dict[str, None] = field(default_factory=dict)
    """Pages without a picture."""

    def add(self, name: str, code: str, message: str, *, whole_page: bool = False) -> None:
        self.refused.setdefault((name, code), Refusal(name=name[:200], code=code, message=message))
        self.is_page_lost = self.is_page_lost or whole_page


class EpubArchive(ClosingArchive):
    """The images of an EPUB in reading order. Its text and styles are skipped.

    A note lists the pages without a picture. Pages whose content is unknown and pictures that are missing or not supported
    are in `refused`; in this case the pictures that no page shows are appended.
    """

    kind: ArchiveKind = "epub"

    def __init__(self, archive: ZipArchive, settings: Settings) -> None:
        """Follow the spine of an open ZIP. The ZIP is closed together with this archive.

        Raises:
            Rejected: `damaged`, its contents cannot be read; `no_readable_page`, `encrypted_archive`,
                `too_many_entries`, `document_too_costly`, `parser_crashed`.
        """
        self._zip, self._settings, self._meter = archive, settings, Meter(settings)
        self._by_name = {member.name: member for member in reversed(archive.members)}
        self._folded = {member.name.casefold(): member for member in reversed(archive.members)}
        self._deadline = time.monotonic() + settings.document_seconds
        self._losses = _Losses()
        self._kinds: dict[str, str] = {}
        self._documents: dict[str, _Document] = {}
        self._shown: dict[str, _Shown] = {}
        self._encrypted: frozenset[str] = frozenset()
        self._unread: set[str] = set()
        self._references = 0
        self._notes = list(archive.notes)
        self._embedded: tuple[str, list[bytes | None]] = ("", [])
        self._reader: Sandbox | None = None
        limits = Limits(settings.document_seconds, settings.parser_memory_bytes, _OUTPUT_BYTES)
        with Sandbox(limits) as sandbox:
            self._encrypted = self._encrypted_names(sandbox)
            self._sources = self._pages(sandbox)
        if self._losses.is_page_lost:
            unplaced = list(self._unshown_pictures())
            self._sources += unplaced
            self._notes += _note(
                [one.name for one in unplaced],
                "pictures are not shown by a readable page and were appended [unplaced_pictures]",
            )
        self._notes += _note(
            self._losses.texts, "pages of the EPUB show no picture and were skipped [pages_without_picture]"
        )
        refused = {refusal.name for refusal in archive.refused}
        losses = [loss for loss in self._losses.refused.values() if loss.name not in refused]
        if not self._sources:
            raise _nothing_to_read(losses)
        # One image may be several pages: the index is the position in the book, not in the ZIP.
        self.members = tuple(
            Member(index, source.name, source.member.bytes if source.member else None)
            for index, source in enumerate(self._sources)
        )
        self.skipped, self.notes = archive.skipped, tuple(self._notes)
        self.refused: tuple[Refusal, ...] = (*archive.refused, *losses)

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        for member in self.members:
            if member.index in wanted:
                yield member, self._content(self._sources[member.index])

    def _content(self, source: _Source) -> Content:
        if source.member is None:
            return self._embedded_picture(source)
        if source.member.name in self._encrypted:
            return Rejected("encrypted_archive", _ENCRYPTED)
        ((_, content),) = self._zip.read({source.member.index})
        return content

    def _embedded_picture(self, source: _Source) -> Content:
        try:
            if self._embedded[0] != source.document:
                self._embedded = (source.document, self._embedded_pictures(source.document))
            data = self._embedded[1][source.number]
            return (
                self._meter.gather([data])
                if data
                else Rejected("damaged", "Its data in the page is damaged.")
            )
        except Rejected as error:
            return error

    def _embedded_pictures(self, document: str) -> list[bytes | None]:
        if self._reader is None:
            settings = self._settings
            self._reader = Sandbox(
                Limits(
                    settings.document_page_seconds,
                    settings.parser_memory_bytes,
                    settings.max_source_bytes + _OUTPUT_BYTES,
                )
            )
        found: list[bytes | None] = self._reader.call(
            f"{_PAGE_PARSER}:embedded_of", document, self._bytes(document), self._style_sheets
        )
        return found

    def _encrypted_names(self, sandbox: Sandbox) -> frozenset[str]:
        """Names of the encrypted members."""
        if self._member(_ENCRYPTION) is None:
            return frozenset()
        try:
            names = sandbox.call(f"{_PACKAGE_PARSER}:encrypted_names", self._bytes(_ENCRYPTION))
        except Rejected as error:
            if error.code != "damaged":
                raise
            return frozenset()
        return frozenset(member.name for name in names if (member := self._member(name)))

    def _pages(self, sandbox: Sandbox) -> list[_Source]:
        """Read the package and return the images in reading order."""
        container = self._bytes(CONTAINER)
        package = sandbox.call(f"{_PACKAGE_PARSER}:package_path", container)
        found = sandbox.call(
            f"{_PACKAGE_PARSER}:read_package",
            self._bytes(package),
            package,
            self._settings.max_archive_entries,
        )
        self.info = BookInfo(
            title=found["title"], authors=tuple(found["authors"]), right_to_left=bool(found["right_to_left"])
        )
        if not found["complete"]:
            self._losses.add(
                package,
                "damaged",
                "The order of the pages is damaged; pages may be missing.",
                whole_page=True,
            )
        self._kinds = {
            member.name: kind for name, kind in found["kinds"].items() if (member := self._member(name))
        }
        self._style_sheets = self._styles()
        spine = [
            member
            for name, kind, reference in found["spine"]
            if (member := self._listed(name, kind, reference))
        ]
        self._follow(sandbox, [member.name for member in spine if self._is_document(member)])
        sources: list[_Source] = []
        for member in spine:
            sources += self._pictures_of(member)
            if len(sources) > self._settings.max_archive_entries:
                raise self._too_many()
        return sources

    def _listed(self, name: str | None, kind: str, reference: str) -> Member | None:
        """The member that the spine refers to. If it is not readable, the reason is added to the losses."""
        if name is None:
            message = f"The spine refers to {reference[:200]!r}, which the EPUB does not define."
            self._losses.add(reference or "(spine)", "not_found", message, whole_page=True)
            return None
        member = self._member(name)
        if member is None:
            self._losses.add(
                name, "not_found", "The spine contains it, but it is not in the EPUB.", whole_page=True
            )
            return None
        if kind and not kind.startswith((_DRAWN, "text/")) and "xml" not in kind:
            message = f"Pages of the type {kind[:100]} are not supported."
            self._losses.add(member.name, "unsupported_format", message)
            return None
        if not kind and _suffix(member.name) not in PICTURE_SUFFIXES:
            kind = "application/xhtml+xml"
        self._kinds[member.name] = self._kinds.get(member.name) or kind
        return member

    def _is_document(self, member: Member) -> bool:
        kind = self._kinds.get(member.name, "")
        if kind.startswith(_DRAWN):
            return kind == _SVG
        return _suffix(member.name) in _DOCUMENT_SUFFIXES or kind.startswith("text/") or "xml" in kind

    def _follow(self, sandbox: Sandbox, names: Iterable[str]) -> None:
        """Parse documents and the documents inside them."""
        wanted = list(dict.fromkeys(names))
        for _ in range(_MAX_NESTING):
            self._parse(sandbox, wanted)
            inside = (
                member
                for name in wanted
                for shown in self._documents[name].shows
                if shown[0] == "member" and (member := self._member(shown[1])) and self._is_document(member)
            )
            wanted = [
                name for name in dict.fromkeys(one.name for one in inside) if name not in self._documents
            ]

    def _parse(self, sandbox: Sandbox, names: list[str]) -> None:
        batch: list[list[Any]] = []

        def parse() -> None:
            if time.monotonic() > self._deadline:
                raise Rejected(
                    TOO_COSTLY,
                    f"The document was not read: it takes longer than {self._settings.document_seconds:g} seconds.",
                )
            contents = sandbox.call(f"{_PAGE_PARSER}:contents_of", batch, self._style_sheets)
            for (name, _), content in zip(batch, contents, strict=True):
                self._documents[name] = _Document(content["readable"], content["drawing"], content["shows"])
                self._count_shown(len(content["shows"]))
            batch.clear()

        for name in names:
            try:
                batch.append([name, self._bytes(name)])
            except Rejected as error:
                self._losses.add(name, error.code, error.message, whole_page=True)
                self._unread.add(name)
                self._documents[name] = _Document(readable=False, drawing=False, shows=[])
            if len(batch) >= _BATCH_PAGES or sum(len(data) for _, data in batch) >= _BATCH_BYTES:
                parse()
        if batch:
            parse()

    def _pictures_of(self, page: Member) -> list[_Source]:
        """The pictures that a page of the spine shows. If there are none, the reason is added to the losses or the texts."""
        if not self._is_document(page):
            return [_Source(page.name, page)]
        shown = self._shown_by(page.name, 0)
        if not shown.sources and not shown.is_incomplete:
            if shown.is_drawing:
                self._losses.add(page.name, "unsupported_format", "SVG drawings are not supported.")
            else:
                self._losses.texts[page.name] = None
        return list(shown.sources)

    def _shown_by(self, name: str, depth: int) -> _Shown:
        """The pictures that a document shows, including its inner documents."""
        if name in self._shown or depth >= _MAX_NESTING:
            return self._shown.get(name, _Shown())
        shown = self._shown[name] = _Shown()
        document = self._documents[name]
        shown.is_drawing = document.drawing
        if not document.readable:
            shown.is_incomplete = True
            message = "The end of the page cannot be parsed; pictures may be missing."
            if name not in self._unread:
                self._losses.add(name, "damaged", message, whole_page=True)
        for kind, value, *more in document.shows:
            if kind == "embedded":
                shown.sources[_embedded_source(name, value, more[0])] = None
            elif kind == "drawing":
                shown.is_drawing = True
            elif kind != "member":
                where = "at an address that cannot be parsed" if kind == "bad_address" else "outside the EPUB"
                self._losses.add(name, kind, f"It shows a picture {where}: {value}")
                shown.is_incomplete = True
            else:
                self._add_member(shown, value, depth)
        return shown

    def _add_member(self, shown: _Shown, name: str, depth: int) -> None:
        member = self._member(name)
        if member is None:
            self._losses.add(name, "not_found", "A page shows it, but it is not in the EPUB.")
            shown.is_incomplete = True
        elif self._is_document(member):
            inner = self._shown_by(member.name, depth + 1) if member.name in self._documents else _Shown()
            shown.sources |= inner.sources
            shown.is_drawing = shown.is_drawing or inner.is_drawing
            shown.is_incomplete = shown.is_incomplete or inner.is_incomplete
            self._count_shown(len(inner.sources))
        else:
            shown.sources[_Source(member.name, member)] = None

    def _count_shown(self, count: int) -> None:
        self._references += count
        if self._references > _MAX_REFERENCES_PER_ENTRY * self._settings.max_archive_entries:
            raise self._too_many()

    def _too_many(self) -> Rejected:
        most = self._settings.max_archive_entries
        return Rejected("too_many_entries", f"The EPUB has more than {most} pages, which is the limit.")

    def _unshown_pictures(self) -> Iterator[_Source]:
        """Pictures of the ZIP that no page shows, in the order of their names."""
        shown = {source.name for source in self._sources}
        for member in self._zip.members:
            kind = self._kinds.get(member.name, "")
            drawn = (kind.startswith(_DRAWN) and kind != _SVG) or _suffix(member.name) in PICTURE_SUFFIXES
            if drawn and member.name not in shown and member.name not in self._encrypted:
                yield _Source(member.name, member)

    def _styles(self) -> dict[str, bytes]:
        members = [
            member
            for name, kind in self._kinds.items()
            if kind == "text/css" and (member := self._member(name))
        ]
        if sum(member.bytes or 0 for member in members) > _MAX_STYLE_BYTES:
            self._notes.append(
                "The style sheets of the EPUB are too large; images in them are ignored [large_styles]"
            )
            return {}
        found: dict[str, bytes] = {}
        for member in members:
            try:
                found[member.name] = self._bytes(member.name)
            except Rejected as error:
                self._losses.add(member.name, error.code, error.message, whole_page=True)
        return found

    def _bytes(self, name: str) -> bytes:
        member = self._member(name)
        if member is None:
            raise Rejected("damaged", f"The EPUB lacks {name}.")
        if member.name in self._encrypted:
            raise Rejected("encrypted_archive", _ENCRYPTED)
        ((_, content),) = self._zip.read({member.index})
        if isinstance(content, Rejected):
            raise content
        return content

    def _member(self, name: str) -> Member | None:
        name = unicodedata.normalize("NFC", name)
        return self._by_name.get(name) or self._folded.get(name.casefold())

    def close(self) -> None:
        self._zip.close()
        if self._reader is not None:
            self._reader.close()


def _embedded_source(document: str, number: int, media_type: str) -> _Source:
    suffix = _SUFFIXES.get(media_type) or f".{media_type.rpartition('/')[2]}"
    suffix = suffix if suffix in PICTURE_SUFFIXES else ""
    stem = PurePosixPath(document).with_suffix("")
    return _Source(f"{stem}-embedded-{number + 1}{suffix}", None, document, number)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _note(names: Collection[str], what: str) -> list[str]:
    """One note that lists files; empty without files."""
    if not names:
        return []
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return [f"{len(names)} {what}: {', '.join(list(names)[:_MAX_LISTED])}{more}"]


def _nothing_to_read(losses: list[Refusal]) -> Rejected:
    if not losses:
        return Rejected("damaged", "The EPUB shows no picture of its own.")
    first = losses[0]
    if all(loss.code == "encrypted_archive" for loss in losses):
        return Rejected("encrypted_archive", "The EPUB is encrypted; unlock it first.")
    return Rejected(
        "no_readable_page",
        f"None of the pages of the EPUB can be read. The first, {first.name}: {first.message} [{first.code}]",
    )
