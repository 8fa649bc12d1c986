"""Picture formats with their limits, and the presets: the variants that a tool needs. A preset is one row."""

from typing import Final, Literal

from panelworks.domain.fields import Frozen
from panelworks.errors import UnknownName

PictureFormat = Literal["png", "jpeg", "webp", "avif", "gif"]
"""A format for output."""
FORMAT_SIDE_LIMITS: Final[dict[PictureFormat, int]] = {
    "png": 2**31 - 1,
    "jpeg": 65535,
    "webp": 16383,
    "avif": 65536,
    "gif": 65535,
}
"""Longest side in pixels: PNG third edition 11.2.1; ITU-T T.81 B.2.2; libwebp's WEBP_MAX_DIMENSION; AV1 5.5.1; GIF89a 18."""
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
}
"""Extensions of files of each format for input."""
_UNREAD_SUFFIXES: Final = (".jxl", ".jxr")
"""Extensions of pages in formats that are recognised and not read."""
PICTURE_SUFFIXES: Final = frozenset(
    [*(suffix for name in MEDIA_TYPES for suffix in SUFFIXES[name]), *_UNREAD_SUFFIXES]
)
"""Extensions of files that are pages, in formats that are read or not."""


def format_that_holds(width: int, height: int, wanted: PictureFormat) -> PictureFormat:
    """`wanted`, or the first of JPEG and PNG whose side limit holds the picture."""
    choices: tuple[PictureFormat, ...] = (wanted, "jpeg", "png")
    return next(name for name in choices if max(width, height) <= FORMAT_SIDE_LIMITS[name])


class VariantSpec(Frozen):
    """How to make a variant: fitted into a box with its aspect ratio, never enlarged."""

    name: str
    width: int | None
    """Maximum width in pixels; None: no limit."""
    height: int | None
    """Maximum height in pixels; None: no limit, so that a webtoon strip keeps its width."""
    format: PictureFormat
    quality: int

    def scale_of(self, size: tuple[int, int]) -> float:
        """The scale at which a page of `size` (width, height) fills the box; 1 without limits."""
        limits = zip((self.width, self.height), size, strict=True)
        return min((limit / side for limit, side in limits if limit is not None), default=1.0)


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
