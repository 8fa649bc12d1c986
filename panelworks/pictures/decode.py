"""Decoding: the format is read from the content, limits are checked before any pixel is."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from panelworks.errors import PanelworksError, Rejected
from panelworks.pictures.colour import to_picture
from panelworks.pictures.picture import Picture
from panelworks.settings import Settings

FORMATS: Final = tuple(
    decoder.format
    for decoder in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        AvifImagePlugin.AvifImageFile,
        PpmImagePlugin.PpmImageFile,
    )
)
"""What Pillow may try, each decoder imported by name so that it is registered."""
_CONTAINERS: Final = {
    b"PK\x03\x04": "ZIP (CBZ) archive",
    b"PK\x05\x06": "ZIP (CBZ) archive",
    b"Rar!\x1a\x07": "RAR (CBR) archive",
    b"7z\xbc\xaf\x27\x1c": "7z (CB7) archive",
    b"%PDF-": "PDF document",
}
_PHOTOMETRIC: Final = 262
"""TIFF tag PhotometricInterpretation; 0 is WhiteIsZero, which Pillow inverts up to 8 bits only."""
_ROTATED: Final = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
_PNG_ORIENTATION: Final = (b"eXIf", b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
"""Chunks of a PNG in which an orientation may stand, before its pixels or behind them."""
_pillow_limit = threading.Lock()


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file say."""

    format: str
    """Lower-case name, such as `png`."""
    width: int
    height: int
    """Size after the EXIF orientation is applied."""
    frames: int


@dataclass(frozen=True)
class Decoded:
    """A picture and what a person should know of how it was read."""

    picture: Picture
    header: Header
    notes: tuple[str, ...]


def read_header(data: bytes, limits: Settings) -> Header:
    """Format, upright size and number of frames, within the limits.

    Raises:
        Rejected: `empty`, `too_large`, `archive`, `unsupported_format`, `damaged`, `too_many_frames`.
    """
    with _opened(data, limits) as image:
        return _header(image, data, limits)


def decode(data: bytes, limits: Settings) -> Decoded:
    """The upright first frame in 8-bit sRGB or gray.

    Raises:
        Rejected: as `read_header`, and `truncated` when the data ends early.
    """
    with _opened(data, limits) as image:
        header = _header(image, data, limits)
        notes = []
        if header.frames > 1:
            notes.append(f"animated: only the first of {header.frames} frames was taken")
        image.load()
        white_is_zero = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        picture, remarks = to_picture(_upright(image), white_is_zero=white_is_zero)
    return Decoded(picture, header, (*notes, *remarks))


@contextmanager
def _opened(data: bytes, limits: Settings) -> Iterator[Image.Image]:
    """A lazily opened image; whatever a decoder throws leaves here as `Rejected`."""
    _refuse_unreadable(data, limits)
    try:
        with _open(data) as image:
            yield image
    except (PanelworksError, MemoryError, TimeoutError):
        raise  # a task that took too long is not a damaged picture
    except UnidentifiedImageError:
        raise Rejected(
            "unsupported_format",
            "This is not a picture in a known format (PNG, JPEG, WebP, GIF, TIFF, BMP, AVIF, PNM).",
        ) from None
    except Exception as error:  # decoders of hostile bytes raise almost anything
        if "truncated" in str(error).lower():
            raise Rejected("truncated", "The picture's data ends before the picture does.") from error
        raise Rejected("damaged", "The picture's data is damaged and cannot be read.") from error


def _open(data: bytes) -> Image.Image:
    """Open without Pillow's own pixel limit: ours is by product, checked in `_header`."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _refuse_unreadable(data: bytes, limits: Settings) -> None:
    if not data:
        raise Rejected("empty", "The file is empty.")
    if len(data) > limits.max_source_bytes:
        raise Rejected(
            "too_large",
            f"The file has {len(data) / 2**20:.1f} MiB; at most {limits.max_source_bytes / 2**20:.0f} are read.",
        )
    for signature, name in _CONTAINERS.items():
        if data.startswith(signature):
            raise Rejected("archive", f"This is a {name}, not a picture; unpack it and pass its pages.")


def _header(image: Image.Image, data: bytes, limits: Settings) -> Header:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise Rejected(
            "too_large",
            f"The picture is {width} x {height} pixels, {width * height / 1e6:.0f} megapixels;"
            f" at most {limits.max_pixels / 1e6:.0f} are read.",
        )
    # MPO is a JPEG with further pictures (a depth map, a preview) behind the page.
    kind = "jpeg" if image.format == "MPO" else str(image.format).lower()
    frames = int(getattr(image, "n_frames", 1)) if kind != "jpeg" else 1
    if frames > limits.max_frames:
        raise Rejected(
            "too_many_frames", f"The animation has {frames} frames; at most {limits.max_frames} are read."
        )
    # Pillow gives the size of a TIFF upright, of any other file as it is stored.
    if image.format != "TIFF" and _may_be_rotated(image, data) and _orientation(image) in _ROTATED:
        width, height = height, width
    return Header(kind, width, height, frames)


def _may_be_rotated(image: Image.Image, data: bytes) -> bool:
    """False for a PNG that nowhere speaks of an orientation: Pillow decodes all of it to look for one."""
    return image.format != "PNG" or any(mark in data for mark in _PNG_ORIENTATION)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 when there is none or the block is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - a broken EXIF block must not lose the page
        return 1


def _upright(image: Image.Image) -> Image.Image:
    if _orientation(image) == 1:
        return image
    profile = image.info.get("icc_profile")
    upright = ImageOps.exif_transpose(image)
    if profile:
        upright.info["icc_profile"] = profile
    return upright
