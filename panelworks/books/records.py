"""The small frozen models of a book's story."""

from typing import Literal

from pydantic import Field

from panelworks.archives.member import Refusal
from panelworks.books.options import BookOptions, PageSpec
from panelworks.errors import Misconfigured
from panelworks.frozen import Frozen
from panelworks.pictures.formats import PictureFormat
from panelworks.records import ArtifactRef, ErrorInfo, IngestedPage, Outcome, VariantArtifact
from panelworks.store.local import NOT_READABLE

PageState = Literal["enhanced", "good", "unimproved", "damaged", "failed", "unreadable"]
"""How a page ended: enlarged; good as it was; nothing improved it; its data is damaged, so that it was kept as it was;
no picture that we read; lost in the archive."""


class BookRequest(Frozen):
    """One book to process: what, how, and where to put it."""

    source: str
    """Path, or s3:// address, of an archive or of a folder of pages."""
    out: str
    """Path or s3:// address of the finished CBZ."""
    options: BookOptions = BookOptions()
    fingerprint: str = ""
    """Of the source, as the shelf saw it; tells whether it changed since."""
    source_bytes: int = 0
    run_id: str = ""
    """Who runs it, for the ledger."""
    force: bool = False
    """Process it again even when it is done."""


class PageToDo(Frozen):
    """A page of a book that waits to be computed."""

    index: int
    name: str
    page: IngestedPage
    """Its content key holds the page's spec as well."""
    spec: PageSpec


class PageDone(Frozen):
    """A page of a book as it ended."""

    index: int
    """Position among the pages of its book, from 0."""
    name: str
    """In the source."""
    state: PageState
    source_sha256: str | None = None
    source_bytes: int = 0
    source_size: tuple[int, int] | None = None
    content_key: str | None = None
    outcome: Outcome | None = None
    wanted: PictureFormat | None = None
    """The format that its parts were to have."""
    parts: tuple[VariantArtifact, ...] = ()
    """What it becomes in the book: one picture, or the parts of a strip that its format cannot hold."""
    original: ArtifactRef | None = None
    """Its own bytes, when they are what the book gets."""
    cached: bool = False
    """Was it known before this run?"""
    notes: tuple[str, ...] = ()
    """What a person should know of it, such as that only the first frame of an animation was taken."""
    error: ErrorInfo | None = None


BookStatus = Literal["success", "incomplete", "error"]
"""How a book ended: with all of its source; without a part of it, which the result names; not published."""


class BookResult(Frozen):
    """The result of one book, as printed by `--json`."""

    source: str
    out: str
    status: BookStatus
    skipped: bool = False
    """Was it done before, so that nothing was opened?"""
    pages: int = 0
    states: dict[PageState, int] = Field(default_factory=dict)
    """Number of pages by how they ended."""
    cached: int = 0
    """Pages that were known before."""
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """What a person should know: members left out, pages that failed, strips that were cut."""
    refused: tuple[Refusal, ...] = ()
    error: ErrorInfo | None = None

    @property
    def lost(self) -> int:
        """Number of files of the source that are missing in the book."""
        return len(self.refused) + self.states.get("unreadable", 0)


class BackfillSummary(Frozen):
    """How a backfill ended."""

    books: int
    done_before: int
    done: int
    failed: dict[str, str]
    """Why, by the book's source."""
    incomplete: tuple[str, ...] = ()
    """Books that are done, now or before, and of whose source something is missing."""
    unlisted: dict[str, str] = Field(default_factory=dict)
    """Folders and files of the archive that could not be read, so that their books are not known, and why."""
    left: int
    """Books that were not begun."""
    stopped: str | None = None
    """Why they were not: the window ended, a budget is spent, or something stands in the way of all."""

    def raise_if_nothing_worked(self) -> None:
        """A backfill whose books all failed has failed itself.

        Raises:
            Misconfigured: `all_failed`; `not_readable`, there is no book beside what could not be read.
        """
        if self.failed and not self.done:
            raise Misconfigured(
                "all_failed", f"No book could be processed; the first: {next(iter(self.failed.values()))}"
            )
        if self.unlisted and not self.books:
            name, reason = next(iter(self.unlisted.items()))
            raise Misconfigured(NOT_READABLE, f"There is no book that can be read; {name}: {reason}")
