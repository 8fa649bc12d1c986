"""Encoding: deterministic bytes, an sRGB profile and no other metadata.

Files are written with the sRGB profile (gray PNG: the sRGB chunk) and nothing else. EXIF, XMP, GPS and thumbnails of
the source are dropped; its orientation is applied.
"""

import io
from typing import Final

import numpy as np
from PIL import PngImagePlugin

from panelworks.domain.formats import FORMAT_SIDE_LIMITS, PictureFormat
from panelworks.errors import Rejected
from panelworks.pictures.colour import srgb_profile
from panelworks.pictures.picture import Picture, to_image

_PNG_COMPRESSION_LEVEL: Final = 3
"""zlib level of PNG: almost the size of level 6 in less than half its time on drawn pages."""


def encode(
    picture: Picture, format: PictureFormat, quality: int | None = None, xmp: bytes | None = None
) -> bytes:
    """Encode a picture. PNG is lossless, and so is WebP for gray; otherwise `quality` 1..100 applies.

    An `xmp` packet is written if given. JPEG has no alpha: the picture is flattened on white. Chroma keeps full
    resolution, because red lettering on black suffers first.

    Raises:
        Rejected: `format_limit`, a side is longer than the format permits.
    """
    limit = FORMAT_SIDE_LIMITS[format]
    if max(picture.size) > limit:
        raise Rejected(
            "format_limit",
            f"{format.upper()} permits {limit} pixels a side; this picture is {picture.width} x {picture.height}.",
        )
    buffer = io.BytesIO()
    more = {} if xmp is None else {"xmp": xmp}
    if format == "png":
        _save_png(picture, buffer, xmp)
    elif format == "jpeg":
        _save_jpeg(picture, quality, buffer, more)
    elif format == "avif":
        image = to_image(picture)
        profile = None if picture.is_gray else srgb_profile()
        image.save(buffer, "AVIF", quality=quality, subsampling="4:4:4", icc_profile=profile, **more)
    else:
        image = to_image(picture)
        if image.mode in ("L", "LA"):
            image = image.convert("RGBA" if image.mode == "LA" else "RGB")
        # Lossy WebP stores gray as YUV, which decodes up to one level off gray. Lossless is exact, and several times
        # smaller for screentone. Its "quality" is the effort of the encoder.
        lossless = {"lossless": True, "quality": 50, "method": 2}
        lossy = {"quality": quality, "method": 4}
        manner = lossless if picture.is_gray else lossy
        image.save(buffer, "WEBP", icc_profile=srgb_profile(), **manner, **more)
    return buffer.getvalue()


def _save_jpeg(picture: Picture, quality: int | None, buffer: io.BytesIO, more: dict[str, bytes]) -> None:
    """Save a JPEG. Optimal Huffman tables need the whole file in Pillow's buffer, which dense noise exceeds."""
    image = to_image(flatten_on_white(picture))
    profile = None if picture.is_gray else srgb_profile()
    for optimal in (True, False):
        try:
            image.save(
                buffer, "JPEG", quality=quality, subsampling=0, optimize=optimal, icc_profile=profile, **more
            )
        except OSError:
            if not optimal:
                raise
            buffer.seek(0)
            buffer.truncate()
        else:
            return


def flatten_on_white(picture: Picture) -> Picture:
    """Flatten a picture on white; the result has no alpha."""
    if picture.alpha is None:
        return picture
    cover = picture.alpha[:, :, None].astype(np.uint16)
    laid = picture.pixels * cover + 255 * (255 - cover)
    return Picture(((laid + 127) // 255).astype(np.uint8))


def _save_png(picture: Picture, buffer: io.BytesIO, xmp: bytes | None) -> None:
    image, chunks = to_image(picture), PngImagePlugin.PngInfo()
    if picture.is_gray:
        chunks.add(b"sRGB", b"\x00")
    if xmp is not None:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    profile = None if picture.is_gray else srgb_profile()
    image.save(buffer, "PNG", compress_level=_PNG_COMPRESSION_LEVEL, pnginfo=chunks, icc_profile=profile)
