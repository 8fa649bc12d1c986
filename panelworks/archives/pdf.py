"""PDF: a page that consists of one image is that image, unchanged; other pages are rendered, in a child process."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from panelworks.archives.member import ArchiveKind, BookInfo, ClosingArchive, Content, Member, Meter
from panelworks.archives.sandbox import TOO_COSTLY, Sandbox
from panelworks.archives.sandbox_child import Limits
from panelworks.domain.books import Refusal
from panelworks.errors import Rejected
from panelworks.pictures.decode import FORMATS
from panelworks.settings import Settings

_OUTPUT_RESERVE_BYTES: Final = 1 << 20
_MAX_KILLS: Final = 5
"""Child processes that the pages of a book may crash or exceed the limits of; the pages after that are not read."""
_PARSER: Final = "panelworks.archives.parsers.pdf"


class PdfArchive(ClosingArchive):
    """The pages of a PDF file as pictures."""

    kind: ArchiveKind = "pdf"

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file.

        Raises:
            Rejected: `damaged`, `encrypted_archive`, `too_many_entries`, `bomb`, `document_too_costly`,
                `parser_crashed`.
        """
        self._path, self._settings, self._meter = os.fsencode(path), settings, Meter(settings)
        self._sandbox = Sandbox(_limits(settings, settings.document_page_seconds))
        with Sandbox(_limits(settings, settings.document_seconds)) as opening:
            found = opening.call(
                f"{_PARSER}:describe", self._path, path.stat().st_size, settings.max_archive_entries
            )
        count = int(found["pages"])
        width = max(4, len(str(count)))
        self.members = tuple(Member(index, f"page-{index + 1:0{width}d}.png") for index in range(count))
        self.refused: tuple[Refusal, ...] = ()
        """Damaged pages. The damage of a page is known after it was read."""
        self.info = BookInfo(
            title=found["title"] or "",
            authors=(found["author"],) if found["author"] else (),
            right_to_left=found["direction"] == "R2L",
        )

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        for member in self.members:
            if member.index in wanted:
                yield member, self._content(member.index)

    def _content(self, index: int) -> Content:
        if self._sandbox.kills >= _MAX_KILLS:
            return Rejected(
                TOO_COSTLY,
                f"{_MAX_KILLS} pages of the PDF exceeded a limit; the pages after them are not read.",
            )
        settings = self._settings
        try:
            data, damage = self._sandbox.call(
                f"{_PARSER}:read_page",
                self._path,
                index,
                settings.pdf_dpi,
                settings.max_pixels,
                settings.parser_memory_bytes,
                settings.max_source_bytes,
                [name for name in FORMATS if name],
            )
            content = self._meter.gather([data])
        except Rejected as error:
            return error
        if damage is not None:
            self.refused = (*self.refused, _damaged(self.members[index].name, damage))
        return content

    def close(self) -> None:
        self._sandbox.close()


def _damaged(name: str, damage: str) -> Refusal:
    return Refusal(
        name=name,
        code="damaged",
        message=f"A part of the page is missing: {damage}. The rest of the page is in the book.",
    )


def _limits(settings: Settings, seconds: float) -> Limits:
    return Limits(seconds, settings.parser_memory_bytes, settings.max_source_bytes + _OUTPUT_RESERVE_BYTES)
