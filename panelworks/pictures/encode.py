"""Encoding: deterministic bytes without the metadata of the source.

Colour files and all WebP files carry the sRGB profile, gray PNG files the sRGB chunk, gray JPEG and AVIF files no
profile. The only other metadata is what the caller passes. EXIF, XMP, GPS and thumbnails of the source are dropped; its
orientation is applied.
"""

import io
import struct
import zlib
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from panelworks.domain.formats import FORMAT_SIDE_LIMITS, PictureFormat
from panelworks.errors import Rejected
from panelworks.pictures.colour import srgb_profile
from panelworks.pictures.jpeg_xl import encode_jpeg_xl
from panelworks.pictures.metadata import Metadata
from panelworks.pictures.parallel import compute_together
from panelworks.pictures.picture import Picture, Pixels, to_image
from panelworks.pictures.png_chunks import make_chunk

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPES: Final = {1: 0, 2: 4, 3: 2, 4: 6}
"""Colour type by the number of channels: gray, gray and alpha, RGB, RGBA."""
_PNG_BAND_BYTES: Final = 2 * 2**20
"""Bytes of pixels that are compressed on their own, several bands at the same time."""
_PNG_SAMPLES: Final = 6
_PNG_SAMPLE_ROWS: Final = 16
_ADLER_MODULUS: Final = 65521
"""See RFC 1950."""


class _Compression(NamedTuple):
    """How the pixels of a PNG are compressed."""

    up: bool
    """Compress the difference of each row to the row above, or the row itself."""
    level: int
    """Of zlib."""
    strategy: int
    """Of zlib."""


_PNG_COMPRESSIONS: Final = (
    _Compression(up=True, level=2, strategy=zlib.Z_DEFAULT_STRATEGY),
    _Compression(up=True, level=1, strategy=zlib.Z_RLE),
    _Compression(up=False, level=2, strategy=zlib.Z_DEFAULT_STRATEGY),
)
"""The first suits scans, the second drawings in colour, the third line art and screentone. All take about as long."""


def encode(
    picture: Picture,
    format: PictureFormat,
    quality: int | None = None,
    xmp: bytes | None = None,
    *,
    metadata: Metadata | None = None,
    progressive: bool = False,
    lossy_gray: bool = False,
) -> bytes:
    """Encode a picture.

    PNG and gray WebP are lossless, GIF has 256 colours; they ignore `quality`. All others require a `quality` of 1..100. JPEG has no alpha: the
    picture is flattened on white. JPEG and AVIF store chroma at full resolution (4:4:4), because subsampling blurs red
    lettering on black. Lossy WebP is always 4:2:0. JPEG XL of quality 100 is lossless.

    Args:
        picture: The picture.
        format: The format.
        quality: 1 to 100.
        xmp: An XMP packet, in place of that of `metadata`.
        metadata: EXIF, XMP and IPTC for the file.
        progressive: A JPEG that is shown coarsely at first; other formats ignore it.
        lossy_gray: Gray WebP is lossy as well, for a file with few bytes.

    Raises:
        Rejected: `format_limit`, a side is longer than the format permits.
        Misconfigured: `jxl_missing`.
    """
    limit = FORMAT_SIDE_LIMITS[format]
    if max(picture.size) > limit:
        raise Rejected(
            "format_limit",
            f"{format.upper()} permits {limit} pixels a side; this picture is {picture.width} x {picture.height}.",
        )
    buffer = io.BytesIO()
    known = metadata or Metadata()
    packets = {"xmp": known.xmp if xmp is None else xmp, "exif": known.exif}
    extra_options: dict[str, bytes] = {name: data for name, data in packets.items() if data is not None}
    if format == "png":
        return _encode_png(picture, extra_options)
    elif format == "jxl":
        return encode_jpeg_xl(picture, quality, **extra_options)
    elif format == "jpeg":
        segment = {"extra": known.segment} if known.segment else {}
        _save_jpeg(picture, quality, buffer, {**extra_options, **segment}, progressive=progressive)
    elif format == "avif":
        image = to_image(picture)
        profile = None if picture.is_gray else srgb_profile()
        image.save(buffer, "AVIF", quality=quality, subsampling="4:4:4", icc_profile=profile, **extra_options)
    elif format == "gif":
        to_image(picture).convert("RGB" if picture.alpha is None else "RGBA").save(buffer, "GIF")
    else:
        is_lossless = picture.is_gray and not lossy_gray
        _save_webp(picture, None if is_lossless else quality, buffer, extra_options)
    return buffer.getvalue()


def _save_webp(
    picture: Picture, quality: int | None, buffer: io.BytesIO, extra_options: dict[str, bytes]
) -> None:
    """Save a WebP, without loss if `quality` is None."""
    image = to_image(picture)
    if image.mode in ("L", "LA"):
        image = image.convert("RGBA" if image.mode == "LA" else "RGB")
    # Lossy WebP stores gray as YUV, which decodes up to one level off gray. Lossless is exact, and several times
    # smaller for screentone. Its "quality" is the effort of the encoder.
    lossless = {"lossless": True, "quality": 50, "method": 2}
    # Method 4, the default, takes twice as long for files that are 1 to 2 % smaller.
    lossy = {"quality": quality, "method": 2}
    options = lossless if quality is None else lossy
    image.save(buffer, "WEBP", icc_profile=srgb_profile(), **options, **extra_options)


def _save_jpeg(
    picture: Picture,
    quality: int | None,
    buffer: io.BytesIO,
    extra_options: dict[str, bytes],
    *,
    progressive: bool,
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
                progressive=progressive,
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


def _encode_png(picture: Picture, packets: dict[str, bytes]) -> bytes:
    profile, srgb = srgb_profile(), make_chunk(b"sRGB", b"\x00")
    chunks = [
        srgb if picture.is_gray else make_chunk(b"iCCP", b"ICC Profile" + bytes(2) + zlib.compress(profile))
    ]
    if "xmp" in packets:
        chunks.append(make_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packets["xmp"]))
    if "exif" in packets:
        chunks.append(make_chunk(b"eXIf", packets["exif"].removeprefix(b"Exif\x00\x00")))
    rows, channels = _interleave(picture)
    header = struct.pack(">2I5B", *picture.size, 8, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    data = [make_chunk(b"IDAT", part) for part in _compress_rows(rows)]
    return b"".join((_PNG_SIGNATURE, make_chunk(b"IHDR", header), *chunks, *data, make_chunk(b"IEND", b"")))


def _interleave(picture: Picture) -> tuple[Pixels, int]:
    """The rows of a picture with the channels of each pixel side by side, Hx(W*channels), and the number of channels."""
    planes = picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha))
    return planes.reshape(picture.height, -1), planes.shape[2]


def _compress_rows(rows: Pixels) -> list[bytes]:
    """Parts of a zlib stream (RFC 1950) of filtered rows."""
    compression = _choose_compression(rows)
    height = max(1, _PNG_BAND_BYTES // rows.shape[1])
    tops = range(0, len(rows), height)
    bands = compute_together([partial(_compress_band, rows, top, top + height, compression) for top in tops])
    low, high = 1, 0
    for _, checksum, size in bands:
        high = (high + size * (low - 1) + (checksum >> 16)) % _ADLER_MODULUS
        low = (low + (checksum & 0xFFFF) - 1) % _ADLER_MODULUS
    return [b"\x78\x01", *(data for data, _, _ in bands), struct.pack(">I", high << 16 | low)]


def _choose_compression(rows: Pixels) -> _Compression:
    """The compression that makes some rows of the picture smallest."""
    tops = np.linspace(0, max(0, len(rows) - _PNG_SAMPLE_ROWS), _PNG_SAMPLES).astype(int)

    def measure_size(compression: _Compression) -> int:
        bands = (_compress_band(rows, int(top), int(top) + _PNG_SAMPLE_ROWS, compression) for top in tops)
        return sum(len(data) for data, _, _ in bands)

    sizes = compute_together([partial(measure_size, one) for one in _PNG_COMPRESSIONS])
    return min(zip(sizes, _PNG_COMPRESSIONS, strict=True))[1]


def _compress_band(rows: Pixels, top: int, bottom: int, compression: _Compression) -> tuple[bytes, int, int]:
    """Compress some rows; returns the data, and checksum and number of their filtered bytes."""
    band = rows[top:bottom]
    filtered = np.empty((len(band), 1 + band.shape[1]), dtype=np.uint8)
    filtered[:, 0] = 2 if compression.up else 0
    filtered[:, 1:] = band
    if compression.up:
        filtered[1:, 1:] -= band[:-1]
        if top:
            filtered[0, 1:] -= rows[top - 1]
    deflate = zlib.compressobj(compression.level, zlib.DEFLATED, -15, 9, compression.strategy)
    flush = zlib.Z_FINISH if bottom >= len(rows) else zlib.Z_SYNC_FLUSH
    data = deflate.compress(filtered.data) + deflate.flush(flush)
    return data, zlib.adler32(filtered.data), filtered.size
