"""The formats that we write, and what each can hold."""

from typing import Final, Literal

PictureFormat = Literal["png", "jpeg", "webp", "avif"]
"""A format that we write."""
FORMAT_SIDE_LIMITS: Final[dict[PictureFormat, int]] = {
    "png": 2**31 - 1,
    "jpeg": 65535,
    "webp": 16383,
    "avif": 65536,
}
"""Longest side in pixels: PNG third edition 11.2.1; ITU-T T.81 B.2.2; libwebp's WEBP_MAX_DIMENSION; AV1 5.5.1."""
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
"""Media type of each format that we read or write."""
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
"""Extensions under which files of each format that we read are found."""
_UNREAD_SUFFIXES: Final = (".jxl", ".jxr")
"""Extensions of pages in formats that we name and do not read."""
PICTURE_SUFFIXES: Final = frozenset(
    [*(suffix for name in MEDIA_TYPES for suffix in SUFFIXES[name]), *_UNREAD_SUFFIXES]
)
"""Extensions of files that are pages, whether we can read them or not."""


def format_that_holds(width: int, height: int, wanted: PictureFormat) -> PictureFormat:
    """`wanted`, or the first of JPEG and PNG whose side limit holds the picture."""
    choices: tuple[PictureFormat, ...] = (wanted, "jpeg", "png")
    return next(name for name in choices if max(width, height) <= FORMAT_SIDE_LIMITS[name])
