"""Encoding: deterministic bytes without the metadata of the source.

Colour files and all WebP files carry the sRGB profile, gray PNG files the sRGB chunk, gray JPEG and AVIF files no
profile. The only other metadata is an XMP packet, if the caller passes one. EXIF, XMP, GPS and thumbnails of the source
are dropped; its orientation is applied.
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
    """Encode a picture.

    PNG and gray WebP are lossless and ignore `quality`. All others require a `quality` of 1..100. JPEG has no alpha: the
    picture is flattened on white. JPEG and AVIF store chroma at full resolution (4:4:4), because subsampling blurs red
    lettering on black. Lossy WebP is always 4:2:0.

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
    extra_options = {} if xmp is None else {"xmp": xmp}
    if format == "png":
        _save_png(picture, buffer, xmp)
    elif format == "jpeg":
        _save_jpeg(picture, quality, buffer, extra_options)
    elif format == "avif":
        image = to_image(picture)
        profile = None if picture.is_gray else srgb_profile()
        image.save(buffer, "AVIF", quality=quality, subsampling="4:4:4", icc_profile=profile, **extra_options)
    else:
        image = to_image(picture)
        if image.mode in ("L", "LA"):
            image = image.convert("RGBA" if image.mode == "LA" else "RGB")
        # Lossy WebP stores gray as YUV, which decodes up to one level off gray. Lossless is exact, and several times
        # smaller for screentone. Its "quality" is the effort of the encoder.
        lossless = {"lossless": True, "quality": 50, "method": 2}
        lossy = {"quality": quality, "method": 4}
        webp_options = lossless if picture.is_gray else lossy
        image.save(buffer, "WEBP", icc_profile=srgb_profile(), **webp_options, **extra_options)
    return buffer.getvalue()


def _save_jpeg(
    picture: Picture, quality: int | None, buffer: io.BytesIO, extra_options: dict[str, bytes]
) -> None:
    """Save a JPEG, with optimal Huffman tables if possible.

    They need the whole file in Pillow's buffer. A picture with dense noise exceeds the buffer and is saved with standard
    tables.
    """
    image = to_image(flatten_on_white(picture))
    profile = None if picture.is_gray else srgb_profile()
    for optimal in (True, False):
        try:
            image.save(
                buffer,
                "JPEG",
                quality=quality,
                subsampling=0,
                optimize=optimal,
                icc_profile=profile,
                **extra_options,
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
    alpha = picture.alpha[:, :, None].astype(np.uint16)
    blended = picture.pixels * alpha + 255 * (255 - alpha)
    return Picture(((blended + 127) // 255).astype(np.uint8))


def _save_png(picture: Picture, buffer: io.BytesIO, xmp: bytes | None) -> None:
    image, chunks = to_image(picture), PngImagePlugin.PngInfo()
    if picture.is_gray:
        chunks.add(b"sRGB", b"\x00")
    if xmp is not None:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode())
    profile = None if picture.is_gray else srgb_profile()
    image.save(buffer, "PNG", compress_level=_PNG_COMPRESSION_LEVEL, pnginfo=chunks, icc_profile=profile)
