"""Books: what a request may ask for one, and the records that its stages hand to each other."""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator

from panelworks.domain.fields import Frozen
from panelworks.domain.formats import PictureFormat
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import ArtifactRef, ErrorInfo, IngestedPage, Outcome, VariantArtifact
from panelworks.errors import NOT_READABLE, Misconfigured
from panelworks.text import normalize_encoding

BookFormat = Literal["same", "jpeg", "webp", "avif", "png"]
"""How pages are written; `same`: as the source was, PNG where that is a format nobody reads."""
_SAME: Final[dict[str, PictureFormat]] = {"jpeg": "jpeg", "webp": "webp", "avif": "avif"}
LARGEST_SCALE: Final = 4.0


class PageSpec(Frozen):
    """How one page of a book is written."""

    format: PictureFormat
    quality: int
    width: int | None
    """Widest it may be; None does not bound."""
    height: int | None
    """Tallest it may be; None does not bound."""
    xmp: bool


class BookOptions(Frozen):
    """What to do with the pages of a book, and how to write them."""

    page: EnhanceOptions = Field(EnhanceOptions(), description="What to do with each page.")
    format: BookFormat = Field("same", description="How pages are written; same: as the source was.")
    quality: int = Field(90, ge=1, le=100, description="Of JPEG, WebP and AVIF.")
    longest_side: int | None = Field(
        None, ge=16, description="Pixels of the longest side of a page; the scale follows from it."
    )
    height: int | None = Field(
        None,
        ge=16,
        description="Height of the device that pages are read on, in pixels; the scale follows from it.",
    )
    name_encoding: str | None = Field(
        None,
        description="Encoding of the names in archives that state none, such as cp932; else the names decide.",
    )
    xmp: bool = Field(False, description="Write into each page what was done to it, as XMP.")

    @field_validator("name_encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        return normalize_encoding(value)

    def for_page(self, size: tuple[int, int]) -> EnhanceOptions:
        """The options of a page of `size` (width, height): enlarged as far as the target asks."""
        target = self._enlargement(size)
        if target is None:
            return self.page
        return self.page.model_copy(update={"scale": round(min(max(target, 1.0), LARGEST_SCALE), 4)})

    def spec_for(self, source_format: str) -> PageSpec:
        """How a page is written that was `source_format`."""
        return PageSpec(
            format=_SAME.get(source_format, "png") if self.format == "same" else self.format,
            quality=self.quality,
            width=self.longest_side,
            height=min((side for side in (self.longest_side, self.height) if side), default=None),
            xmp=self.xmp,
        )

    def _enlargement(self, size: tuple[int, int]) -> float | None:
        factors = [
            side / now
            for side, now in ((self.longest_side, max(size)), (self.height, size[1]))
            if side is not None
        ]
        return min(factors, default=None)


class Refusal(Frozen):
    """A member that is left alone, and why."""

    name: str
    code: str
    message: str


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

    def to_parameters(self) -> dict[str, Any]:
        """The request as parameters of a run: JSON values. The run reads fingerprint and size from the source."""
        return self.model_dump(mode="json", exclude={"fingerprint", "source_bytes"})

    @classmethod
    def from_parameters(cls, given: Mapping[str, Any]) -> Self:
        """Read parameters of a run, as JSON values or as models."""
        return cls.model_validate({name: given[name] for name in cls.model_fields if name in given})


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
