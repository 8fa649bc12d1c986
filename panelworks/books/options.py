"""What a request may ask for a book: what happens to its pages, and how they are written."""

from typing import Final, Literal

from pydantic import Field, field_validator

from panelworks.frozen import Frozen
from panelworks.names import known_encoding
from panelworks.options import EnhanceOptions
from panelworks.pictures.formats import PictureFormat

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
        return known_encoding(value)

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
