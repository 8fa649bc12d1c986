"""JPEG XL for output, and to convert what was written, by the package pillow-jxl-plugin, which is under the GPL and therefore an extra of its own."""

import io
from functools import lru_cache
from typing import Any, Final

from PIL import Image

from panelworks.errors import Misconfigured, Rejected
from panelworks.pictures.picture import Picture, from_image, to_image

_EFFORT: Final = 5
"""Of 1 to 9: faster than the default of libjxl, 7."""
_KEPT_SEGMENTS: Final = (0xE0, 0xEE)
"""Segments of a JPEG that determine its pixels or their colour: JFIF, Adobe, and the profile in APP2."""
_MODES: Final = ("L", "LA", "RGB", "RGBA")
_PROFILE: Final = b"ICC_PROFILE\x00"


@lru_cache(maxsize=1)
def _load_plugin() -> Any:
    """The module `pillow_jxl`; None if it is not installed. Importing it registers the format with Pillow."""
    try:
        import pillow_jxl
    except ImportError:
        return None
    return pillow_jxl


def require_jpeg_xl() -> Any:
    """The module that writes JPEG XL.

    Raises:
        Misconfigured: `jxl_missing`.
    """
    plugin = _load_plugin()
    if plugin is None:
        raise Misconfigured(
            "jxl_missing", "JPEG XL needs an extra: pip install 'panelworks[jxl]'; or choose AVIF or WebP."
        )
    return plugin


def encode_jpeg_xl(picture: Picture, quality: int | None, **metadata: bytes) -> bytes:
    """Encode a picture as JPEG XL in sRGB, with a `quality` of 1..100; 100 and None are lossless.

    Raises:
        Misconfigured: `jxl_missing`.
    """
    require_jpeg_xl()
    buffer = io.BytesIO()
    lossless = quality is None or quality == 100
    chosen = {"lossless": True} if lossless else {"quality": quality}
    to_image(picture).save(buffer, "JXL", effort=_EFFORT, num_threads=1, **chosen, **metadata)
    return buffer.getvalue()


def is_jpeg_xl(data: bytes) -> bool:
    """Is this a JPEG XL file, as a container or as a bare codestream?"""
    return data.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n"))


def decode_jpeg_xl(data: bytes, max_pixels: int) -> Picture:
    """The first frame of a JPEG XL file that was delivered. As a source, JPEG XL is refused.

    Raises:
        Misconfigured: `jxl_missing`. Rejected: `too_large`, `damaged`.
    """
    require_jpeg_xl()
    try:
        with Image.open(io.BytesIO(data), formats=("JXL",)) as image:
            if image.width * image.height > max_pixels:
                raise Rejected("too_large", f"The picture has {image.width} x {image.height} pixels.")
            return from_image(image.convert(image.mode if image.mode in _MODES else "RGB"))
    except (OSError, RuntimeError, ValueError) as error:
        raise Rejected("damaged", "The JPEG XL file is damaged.") from error


def transcode_jpeg(data: bytes, size: tuple[int, int]) -> bytes:
    """A JPEG of `size` (width, height) as JPEG XL without loss and without metadata: its pixels can be restored bit by bit.

    Raises:
        Misconfigured: `jxl_missing`. RuntimeError, ValueError: the JPEG has a coding that JPEG XL does not represent.
    """
    plugin = require_jpeg_xl()
    encoder = plugin.Encoder(
        mode="RGB", lossless=True, quality=100, decoding_speed=0, effort=_EFFORT, use_container=False,
        use_original_profile=True, num_threads=1,
    )  # fmt: skip
    return bytes(encoder(strip_jpeg(data), *size, jpeg_encode=True))


def strip_jpeg(data: bytes) -> bytes:
    """A JPEG without EXIF, XMP, IPTC, comments and thumbnails; its profile and pixels stay.

    Raises:
        ValueError: it has no scan.
    """
    parts, position = [data[:2]], 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, stop = (
            data[position + 1],
            position + 2 + int.from_bytes(data[position + 2 : position + 4], "big"),
        )
        if marker == 0xDA:
            end = data.rfind(b"\xff\xd9")
            return b"".join((*parts, data[position : end + 2 if end > position else len(data)]))
        application = 0xE0 <= marker <= 0xEF or marker == 0xFE
        profile = marker == 0xE2 and data[position + 4 : stop].startswith(_PROFILE)
        if not application or marker in _KEPT_SEGMENTS or profile:
            parts.append(data[position:stop])
        position = stop
    raise ValueError("the JPEG has no scan")


def is_upright(data: bytes) -> bool:
    """Whether the EXIF orientation of a JPEG leaves its pixels as they are."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return image.getexif().get(0x0112, 1) in (0, 1)
