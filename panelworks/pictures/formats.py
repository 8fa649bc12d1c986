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
}
"""Media type of each format that we read or write."""
EXTENSIONS: Final[dict[str, str]] = {
    media_type: {"jpeg": "jpg", "tiff": "tif", "jpeg2000": "jp2"}.get(name, name)
    for name, media_type in MEDIA_TYPES.items()
}
"""File extension of each media type."""


def format_that_holds(width: int, height: int, wanted: PictureFormat) -> PictureFormat:
    """`wanted`, or the first of JPEG and PNG whose side limit holds the picture."""
    choices: tuple[PictureFormat, ...] = (wanted, "jpeg", "png")
    return next(name for name in choices if max(width, height) <= FORMAT_SIDE_LIMITS[name])
