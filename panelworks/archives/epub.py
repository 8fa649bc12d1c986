"""EPUB: the images of its pages, in the order of its spine. A child process parses XML and HTML."""

import time
import unicodedata
from collections.abc import Collection, Iterator
from typing import Any, Final

from panelworks.archives.member import ArchiveKind, BookInfo, Closing, Content, Member, Refusal
from panelworks.archives.zipped import ZipArchive
from panelworks.errors import Rejected
from panelworks.sandbox import TOO_COSTLY, Limits, Sandbox
from panelworks.settings import Settings

CONTAINER: Final = "META-INF/container.xml"
"""The member that makes a ZIP an EPUB."""
NO_SPINE: Final = Refusal(
    name="(the order of the pages)",
    code="no_spine",
    message="The EPUB does not say the order of its pages, or it cannot be read; they come in the order of their names.",
)
_DRAWN: Final = "image/"
_SVG: Final = "image/svg+xml"
_PARSER: Final = "panelworks.documents.epub"
_BATCH_PAGES: Final = 100
_BATCH_BYTES: Final = 8 << 20
_MAX_STYLE_BYTES: Final = 4 << 20
"""Style sheets of a book in all; of more than that none is looked at."""
_OUTPUT_BYTES: Final = 32 << 20


class EpubArchive(Closing):
    """The images of an EPUB in reading order. Its text and styles are frames around them and are left out."""

    kind: ArchiveKind = "epub"

    def __init__(self, archive: ZipArchive, settings: Settings) -> None:
        """Follow the spine of an opened ZIP, which is closed with this, or when it has no spine.

        Raises:
            Rejected: `damaged`, it has no readable contents; `too_many_entries`, `document_too_costly`,
                `parser_crashed`.
        """
        self._zip, self._settings = archive, settings
        self._by_name = {member.name: member for member in reversed(archive.members)}
        self._folded = {member.name.casefold(): member for member in reversed(archive.members)}
        self._deadline = time.monotonic() + settings.document_seconds
        limits = Limits(settings.document_seconds, settings.parser_memory_bytes, _OUTPUT_BYTES)
        with Sandbox(limits) as sandbox:
            names = self._images(sandbox)
        found = [(name, self._member(name)) for name in names]
        sources = [member for _, member in found if member is not None]
        if not sources:
            raise Rejected("damaged", "The EPUB shows no picture of its own.")
        self._sources = [member.index for member in sources]
        # One image may be two pages: the index is the place in the book, not in the ZIP.
        self.members = tuple(Member(index, member.name, member.bytes) for index, member in enumerate(sources))
        missing = dict.fromkeys(name for name, member in found if member is None)
        self.skipped, self.notes = archive.skipped, archive.notes
        refused = {refusal.name for refusal in archive.refused}
        self.refused: tuple[Refusal, ...] = (
            *archive.refused,
            *(
                Refusal(
                    name=name[:200], code="not_found", message="A page shows it, but it is not in the EPUB."
                )
                for name in missing
                if name not in refused
            ),
        )

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        for member in self.members:
            if member.index in wanted:
                for _, content in self._zip.read({self._sources[member.index]}):
                    yield member, content

    def _images(self, sandbox: Sandbox) -> list[str]:
        """Names of the images in reading order."""
        container = self._bytes(CONTAINER)
        package = sandbox.call(f"{_PARSER}:package_path", container)
        found = sandbox.call(
            f"{_PARSER}:read_package", self._bytes(package), package, self._settings.max_archive_entries
        )
        self.info = BookInfo(
            title=found["title"], authors=tuple(found["authors"]), right_to_left=bool(found["right_to_left"])
        )
        spine = [(str(name), str(kind)) for name, kind in found["spine"]]
        pages = dict.fromkeys(name for name, kind in spine if kind == _SVG or not kind.startswith(_DRAWN))
        shown = self._images_by_page(sandbox, list(pages), self._styles(found["styles"]))
        names: list[str] = []
        for name, kind in spine:
            if name not in pages:
                names.append(name)
            else:
                # A drawing without a picture inside is a page as well, and is named as one that is not read.
                names += shown.get(name) or ([name] if kind == _SVG else [])
            if len(names) > self._settings.max_archive_entries:
                raise Rejected(
                    "too_many_entries",
                    f"The EPUB has more than {self._settings.max_archive_entries} pages, which is the most that is read.",
                )
        return names

    def _images_by_page(
        self, sandbox: Sandbox, names: list[str], styles: dict[str, bytes]
    ) -> dict[str, list[str]]:
        shown: dict[str, list[str]] = {}
        batch: list[list[Any]] = []

        def parse() -> None:
            if time.monotonic() > self._deadline:
                raise Rejected(
                    TOO_COSTLY,
                    f"The document was not read: it takes longer than {self._settings.document_seconds:g} seconds.",
                )
            images = sandbox.call(f"{_PARSER}:images_of", batch, styles)
            shown.update(zip((name for name, _ in batch), images, strict=True))
            batch.clear()

        for name in names:
            batch.append([name, self._page(name)])
            if len(batch) >= _BATCH_PAGES or sum(len(data) for _, data in batch) >= _BATCH_BYTES:
                parse()
        parse()
        return shown

    def _styles(self, names: list[str]) -> dict[str, bytes]:
        members = [(name, self._member(name)) for name in names]
        if sum((member.bytes or 0) for _, member in members if member) > _MAX_STYLE_BYTES:
            return {}
        return {name: self._page(name) for name, member in members if member}

    def _page(self, name: str) -> bytes:
        """A page of text; an empty one where the file is damaged or missing, so that the others are still read."""
        try:
            return self._bytes(name)
        except Rejected:
            return b""

    def _bytes(self, name: str) -> bytes:
        member = self._member(name)
        if member is None:
            raise Rejected("damaged", f"The EPUB lacks {name}.")
        ((_, content),) = self._zip.read({member.index})
        if isinstance(content, Rejected):
            raise content
        return content

    def _member(self, name: str) -> Member | None:
        name = unicodedata.normalize("NFC", name)
        return self._by_name.get(name) or self._folded.get(name.casefold())

    def close(self) -> None:
        self._zip.close()
