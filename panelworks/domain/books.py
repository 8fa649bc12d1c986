"""Books: the options and request of a book, and the records that its stages pass on."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator

from panelworks.domain.fields import Frozen, digest_of
from panelworks.domain.formats import PictureFormat
from panelworks.domain.options import EnhanceOptions, limit_scale
from panelworks.domain.result import ArtifactRef, ErrorInfo, IngestedPage, Outcome, Review, VariantArtifact
from panelworks.errors import NOT_READABLE, Misconfigured
from panelworks.text import normalize_encoding

PAGE_OPTIONS: Final = (
    "scale", "model", "fix_artifacts", "descreen", "denoise", "levels", "gray", "colour", "rules", "ignore_series_rule",
    "accept_damaged", "review",
)  # fmt: skip
"""Options of pages that are also offered for books."""


def book_id(out: str) -> str:
    """The identity of a book in the ledger, the API and the studio, from the destination of its file."""
    return digest_of(out)[:32]


BookFormat = Literal["same", "jpeg", "webp", "avif", "png"]
"""Format of the pages; `same`: that of the source, PNG if readers do not support it."""
_SAME: Final[dict[str, PictureFormat]] = {"jpeg": "jpeg", "webp": "webp", "avif": "avif"}


class PageSpec(Frozen):
    """How one page of a book is written."""

    format: PictureFormat
    quality: int
    width: int | None
    """Maximum width in pixels; None: no limit."""
    height: int | None
    """Maximum height in pixels; None: no limit."""
    xmp: bool


class BookOptions(Frozen):
    """What to do with the pages of a book, and how to write them."""

    page: EnhanceOptions = Field(EnhanceOptions(), description="What to do with each page.")
    format: BookFormat = Field("same", description="Format of the pages; same: that of the source.")
    quality: int = Field(90, ge=1, le=100, description="Of JPEG, WebP and AVIF.")
    longest_side: int | None = Field(
        None, ge=16, description="Pixels of the longest side of a page; the scale follows from it."
    )
    height: int | None = Field(
        None,
        ge=16,
        description="Height of the reading device in pixels; the scale follows from it.",
    )
    name_encoding: str | None = Field(
        None,
        description="Encoding of names in archives that do not declare one, such as cp932; empty: detected from the names.",
    )
    xmp: bool = Field(False, description="Write the performed steps into each page, as XMP.")

    @field_validator("name_encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        return normalize_encoding(value)

    def for_page(self, size: tuple[int, int]) -> EnhanceOptions:
        """The options of a page of `size` (width, height): enlarged to the target size."""
        target = self._enlargement(size)
        if target is None:
            return self.page
        return self.page.model_copy(update={"scale": limit_scale(target), "longest_side": None})

    def spec_for(self, source_format: str) -> PageSpec:
        """How a page is written whose source has the format `source_format`."""
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
    """A member of an archive that is skipped, and why."""

    name: str
    code: str
    message: str


PageState = Literal["enhanced", "good", "unimproved", "damaged", "failed", "unreadable"]
"""How a page ended. `good`: not enhanced, it is good enough; `unimproved`: no result passed validation; `damaged`: not
enhanced, its pixel data is damaged; `failed`: its picture could not be read; `unreadable`: the archive lost it."""


class BookRequest(Frozen):
    """One book to process: what, how, and where to put it."""

    source: str
    """Path, or s3:// address, of an archive or of a folder of pages."""
    out: str
    """Path or s3:// address of the finished CBZ."""
    options: BookOptions = BookOptions()
    fingerprint: str = ""
    """Of the source when the archive was listed; shows whether it has changed since."""
    source_bytes: int = 0
    run_id: str = ""
    """Identity of the run in the ledger."""
    force: bool = False
    """Process it again even when it is done."""

    @property
    def series(self) -> str:
        """The name of the book without extension."""
        return PurePosixPath(self.source).stem

    def to_parameters(self) -> dict[str, Any]:
        """The request as parameters of a run: JSON values. The run reads fingerprint and size from the source."""
        return self.model_dump(mode="json", exclude={"fingerprint", "source_bytes"})

    @classmethod
    def from_parameters(cls, given: Mapping[str, Any]) -> Self:
        """Read parameters of a run, as JSON values or as models."""
        return cls.model_validate({name: given[name] for name in cls.model_fields if name in given})


class PageToDo(Frozen):
    """A page of a book that is not computed yet."""

    index: int
    name: str
    page: IngestedPage
    """Its content key includes the spec."""
    spec: PageSpec


class PageDone(Frozen):
    """A page of a book that has ended."""

    index: int
    """Position among the pages of its book, from 0."""
    name: str
    """Name in the source."""
    state: PageState
    source_sha256: str | None = None
    source_bytes: int = 0
    source_size: tuple[int, int] | None = None
    content_key: str | None = None
    outcome: Outcome | None = None
    wanted: PictureFormat | None = None
    """The requested format of its parts."""
    parts: tuple[VariantArtifact, ...] = ()
    """Its pictures in the book: one, or the parts of a strip that is too long for the format."""
    original: ArtifactRef | None = None
    """The bytes of the source, if the book contains them unchanged."""
    cached: bool = False
    """Was its result cached before this run?"""
    notes: tuple[str, ...] = ()
    """Notes for people, such as that only the first frame of an animation was used."""
    error: ErrorInfo | None = None


BookStatus = Literal["success", "incomplete", "error"]
"""How a book ended. `incomplete`: without parts of the source, which the result lists; `error`: not published."""


class BookResult(Frozen):
    """The result of one book, as printed by `--json`."""

    source: str
    out: str
    status: BookStatus
    skipped: bool = False
    """Was it finished before, so that its archive was not opened?"""
    pages: int = 0
    states: dict[PageState, int] = Field(default_factory=dict)
    """Number of pages by how they ended."""
    cached: int = 0
    """Pages whose results were cached."""
    bytes_before: int = 0
    bytes_after: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """Notes for people: skipped members, failed pages, strips that were cut."""
    refused: tuple[Refusal, ...] = ()
    review: Review | None = Field(None, exclude_if=lambda given: given is None)
    """The review of the book; None if it was published without one."""
    waits_at: str | None = Field(None, exclude_if=lambda given: given is None)
    """Where the file is while it waits for review; None: it is at `out`, or there is none."""
    url: str | None = Field(None, exclude_if=lambda given: given is None)
    """Address of the published book at the CDN; None without PANELWORKS_PUBLIC_URL."""
    error: ErrorInfo | None = None

    @property
    def awaits_review(self) -> bool:
        """Is the book not published, because a person has not decided yet?"""
        return self.review is not None and self.review.state == "pending"

    @property
    def was_rejected(self) -> bool:
        """Did a person reject the book, so that it was not published?"""
        return self.review is not None and self.review.state == "rejected"

    @property
    def place(self) -> str:
        """Where the file is: at `out`, or where it waits for review."""
        return self.waits_at or self.out

    @property
    def lost(self) -> int:
        """Number of files of the source that are not in the book."""
        return len(self.refused) + self.states.get("unreadable", 0)


class BackfillSummary(Frozen):
    """How a backfill ended."""

    books: int
    done_before: int
    done: int
    failed: dict[str, str]
    """Reasons by source of the book."""
    incomplete: tuple[str, ...] = ()
    """Books that are finished, now or before, without parts of their source."""
    waiting: tuple[str, ...] = ()
    """Books that wait for the review of a person, finished now or before."""
    unlisted: dict[str, str] = Field(default_factory=dict)
    """Folders and files of the archive that could not be listed, with the reasons; books in them are unknown."""
    left: int
    """Books that were not started."""
    stopped: str | None = None
    """Why: the window ended, the budget is spent, or every book would fail."""

    def raise_if_nothing_worked(self) -> None:
        """Fail a backfill whose books all failed.

        Raises:
            Misconfigured: `all_failed`; `not_readable`, the archive has no readable book.
        """
        if self.failed and not self.done:
            raise Misconfigured(
                "all_failed", f"No book could be processed; the first: {next(iter(self.failed.values()))}"
            )
        if self.unlisted and not self.books:
            name, reason = next(iter(self.unlisted.items()))
            raise Misconfigured(NOT_READABLE, f"There is no book that can be read; {name}: {reason}")
