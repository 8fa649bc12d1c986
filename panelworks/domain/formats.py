"""Picture formats with their limits, and the presets: the variants that a tool needs. A preset is one row."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from panelworks.domain.fields import Frozen
from panelworks.domain.watermark import Colour, Watermark
from panelworks.errors import UnknownName

PictureFormat = Literal["png", "jpeg", "webp", "avif", "jxl", "gif"]
"""A format for output."""
FORMAT_SIDE_LIMITS: Final[dict[PictureFormat, int]] = {
    "png": 2**31 - 1,
    "jpeg": 65535,
    "webp": 16383,
    "avif": 65536,
    "jxl": 2**18,
    "gif": 65535,
}
"""Longest side in pixels: PNG third edition 11.2.1; ITU-T T.81 B.2.2; libwebp's WEBP_MAX_DIMENSION; AV1 5.5.1; ISO/IEC 18181-1
annex M, level 5; GIF89a 18."""
MEDIA_TYPES: Final[dict[str, str]] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "bmp": "image/bmp",
    "avif": "image/avif",
    "ppm": "image/x-portable-anymap",
    "jpeg2000": "image/jp2",
    "tga": "image/x-tga",
    "heif": "image/heic",
    "jxl": "image/jxl",
}
"""Media type of each format for input or output."""
EXTENSIONS: Final[dict[str, str]] = {
    media_type: {"jpeg": "jpg", "tiff": "tif", "jpeg2000": "jp2", "heif": "heic"}.get(name, name)
    for name, media_type in MEDIA_TYPES.items()
}
"""File extension of each media type."""
SUFFIXES: Final[dict[str, tuple[str, ...]]] = {
    "png": (".png", ".apng"),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "webp": (".webp",),
    "gif": (".gif",),
    "tiff": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "avif": (".avif", ".avifs"),
    "ppm": (".ppm", ".pgm", ".pbm", ".pnm"),
    "jpeg2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "tga": (".tga", ".targa", ".icb", ".vda", ".vst"),
    "heif": (".heic", ".heif", ".hif"),
    "jxl": (".jxl",),
}
"""Extensions of files of each format for input."""
_UNREAD_SUFFIXES: Final = (".jxr",)
"""Extensions of pages in formats that are recognised and neither read nor written."""
PICTURE_SUFFIXES: Final = frozenset(
    [*(suffix for name in MEDIA_TYPES for suffix in SUFFIXES[name]), *_UNREAD_SUFFIXES]
)
"""Extensions of files that are pages, in formats that are read or not."""


def format_that_holds(width: int, height: int, wanted: PictureFormat) -> PictureFormat:
    """`wanted`, or the first of JPEG and PNG whose side limit holds the picture."""
    choices: tuple[PictureFormat, ...] = (wanted, "jpeg", "png")
    return next(name for name in choices if max(width, height) <= FORMAT_SIDE_LIMITS[name])


Fit = Literal["inside", "fill", "crop"]
"""`inside` keeps the whole page and its aspect ratio, and never enlarges it; `fill` shows the whole page on a background of
exactly the size of the box; `crop` fills the box and cuts off the rest of the page."""
MetadataPolicy = Literal["strip", "copyright", "keep"]
"""What a variant carries of the metadata of the source. The orientation is always applied, and positions are always removed."""
Share = Annotated[float, Field(ge=0, le=1)]
Focus = Literal["smart"] | tuple[Share, Share]
"""What a crop keeps: faces, balloons and lettering that it finds, or a point as shares of width and height."""
Quality = Annotated[int, Field(ge=1, le=100)] | Literal["auto"]
MAX_VARIANT_SIDE: Final = 65_535
MAX_VARIANTS: Final = 16
MAX_BOX_PIXELS: Final = 100_000_000
"""Maximum pixels of a box that is filled: such a variant may be larger than the page."""
Side = Annotated[int, Field(ge=1, le=MAX_VARIANT_SIDE)]


def _is_default(default: Any) -> Callable[[Any], bool]:
    """Fields that earlier releases do not know are written only where they are used: content keys and records stay the same."""
    return lambda given: given == default


class VariantSpec(Frozen):
    """How to make a variant: by default fitted into a box with its aspect ratio, never enlarged."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$", description="Name of the variant and of its file."
    )
    width: Side | None = Field(None, description="Maximum width in pixels; empty: no limit.")
    height: Side | None = Field(
        None,
        description="Maximum height in pixels; empty: no limit, so that a webtoon strip keeps its width.",
    )
    format: PictureFormat = "webp"
    quality: Quality = Field(85, description="1 to 100, or 'auto': the lowest that looks like the page.")
    fit: Fit = Field("inside", exclude_if=_is_default("inside"), description="inside, fill or crop.")
    focus: Focus = Field(
        "smart",
        exclude_if=_is_default("smart"),
        description="What a crop keeps: 'smart', or two shares of width and height.",
    )
    background: Colour | None = Field(
        None,
        exclude_if=_is_default(None),
        description="Colour behind transparent parts, and around the page with fit=fill; empty: white.",
    )
    watermark: Watermark | None = Field(None, exclude_if=_is_default(None), description="Picture or text.")
    metadata: MetadataPolicy = Field(
        "strip", exclude_if=_is_default("strip"), description="EXIF, XMP and IPTC: strip, copyright or keep."
    )
    bytes_at_most: Annotated[int, Field(ge=100)] | None = Field(
        None,
        exclude_if=_is_default(None),
        description="Maximum bytes; the quality is lowered to min_quality at most.",
    )
    min_quality: Annotated[int, Field(ge=1, le=100)] = Field(
        20, exclude_if=_is_default(20), description="Lowest quality for bytes_at_most."
    )
    progressive: bool = Field(
        False, exclude_if=_is_default(False), description="Progressive JPEG; other formats ignore it."
    )
    source: str | None = Field(
        None,
        exclude_if=_is_default(None),
        description="Set by the pipeline: the stored source whose metadata is used.",
    )

    @field_validator("focus", mode="before")
    @classmethod
    def _reads_a_point(cls, given: Any) -> Any:
        if isinstance(given, str) and "," in given:
            return tuple(given.split(","))
        return given

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.fit != "inside" and (self.width is None or self.height is None):
            raise ValueError(f"fit={self.fit} needs a width and a height")
        if self.fit != "inside" and (self.width or 0) * (self.height or 0) > MAX_BOX_PIXELS:
            raise ValueError(f"fit={self.fit} allows {MAX_BOX_PIXELS // 1_000_000} megapixels")
        if self.format == "png" and (self.bytes_at_most is not None or self.quality == "auto"):
            raise ValueError("PNG has no quality; choose another format for bytes_at_most or quality=auto")
        if isinstance(self.quality, int) and self.bytes_at_most and self.quality < self.min_quality:
            raise ValueError("the quality is below min_quality")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether it uses no option beyond the box, the format and a quality."""
        return self.quality != "auto" and not set(self.model_dump()) - _PLAIN_FIELDS

    def scale_of(self, size: tuple[int, int]) -> float:
        """The scale at which a page of `size` (width, height) fills the box; 1 without limits."""
        limits = zip((self.width, self.height), size, strict=True)
        scales = [limit / side for limit, side in limits if limit is not None]
        return max(scales, default=1.0) if self.fit == "crop" else min(scales, default=1.0)

    def box_of(self, size: tuple[int, int]) -> tuple[int | None, int | None]:
        """The box into which the whole page of `size` (width, height) is fitted for this variant."""
        if self.fit != "crop":
            return (self.width, self.height)
        scale = self.scale_of(size)
        return (math.ceil(size[0] * scale), math.ceil(size[1] * scale))


_PLAIN_FIELDS: Final = {"name", "width", "height", "format", "quality"}


def _box(name: str, width: int, height: int | None, format: PictureFormat, quality: int) -> VariantSpec:
    return VariantSpec(name=name, width=width, height=height, format=format, quality=quality)


PRESETS: Final[dict[str, tuple[VariantSpec, ...]]] = {
    "comic-page": (_box("normal", 1440, None, "jpeg", 85), _box("high", 2880, None, "webp", 95)),
    "dall-e": (_box("normal", 1024, 1024, "jpeg", 80), _box("high", 2048, 2048, "webp", 95)),
    "sora": (_box("normal", 1280, 720, "jpeg", 85), _box("high", 1920, 1080, "webp", 95)),
    "stable-diffusion": (_box("normal", 768, 768, "jpeg", 80), _box("high", 1536, 1536, "webp", 95)),
}
"""Variants by preset. `comic-page` limits only the width, so that long strips stay readable."""


def preset_named(name: str) -> tuple[VariantSpec, ...]:
    """The variants of a preset.

    Raises:
        UnknownName: `unknown_preset`.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise UnknownName(
            "unknown_preset", f"There is no preset '{name}'; known are {', '.join(PRESETS)}."
        ) from None
