"""Encoding: deterministic bytes without the metadata of the source.

Colour files and all WebP files carry the sRGB profile, gray PNG files the sRGB chunk, gray JPEG and AVIF files no
profile. The only other metadata is an XMP packet, if the caller passes one. EXIF, XMP, GPS and thumbnails of the source
are dropped; its orientation is applied.
"""

import io
import zlib
from typing import Final

import cv2
import numpy as np

from panelworks.domain.formats import FORMAT_SIDE_LIMITS, PictureFormat
from panelworks.errors import Rejected
from panelworks.pictures.colour import srgb_profile
from panelworks.pictures.picture import Picture, to_image
from panelworks.pictures.png_chunks import make_chunk

_PNG_OPTIONS: Final = (
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
    *(cv2.IMWRITE_PNG_COMPRESSION, 2),
)
"""On sixty enlarged pages 6 % larger than Pillow's adaptive filters with zlib level 3, in 41 % of the time."""
_PNG_HEADER_BYTES: Final = 33
"""Signature and IHDR, which precede the chunks with the colour space."""


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
        return _encode_png(picture, xmp)
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


def _encode_png(picture: Picture, xmp: bytes | None) -> bytes:
    profile, srgb = srgb_profile(), make_chunk(b"sRGB", b"\x00")
    chunks = [
        srgb if picture.is_gray else make_chunk(b"iCCP", b"ICC Profile" + bytes(2) + zlib.compress(profile))
    ]
    if xmp is not None:
        chunks.append(make_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp))
    file = _compress_planes(picture)
    return b"".join((file[:_PNG_HEADER_BYTES], *chunks, file[_PNG_HEADER_BYTES:]))


def _compress_planes(picture: Picture) -> bytes | memoryview:
    """A PNG file of the pixels alone."""
    if picture.is_gray and picture.alpha is not None:  # OpenCV has no such mode
        buffer = io.BytesIO()
        to_image(picture).save(buffer, "PNG", compress_level=2)
        return buffer.getvalue()
    if picture.alpha is not None:
        planes = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2BGRA)
        planes[:, :, 3] = picture.alpha
    else:
        planes = picture.pixels if picture.is_gray else cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", planes, _PNG_OPTIONS)[1].data
