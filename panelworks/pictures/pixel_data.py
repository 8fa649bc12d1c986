"""Loading the pixels of an opened file, and the colour space that the file states for them."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import ExifTags, Image

from panelworks.pictures import jpeg_stream, libtiff, png_chunks, tiff_directories, webp_chunks
from panelworks.pictures.colour_tags import ColourSpace, adobe_rgb, colour_space_of, outranks_profile
from panelworks.pictures.structure import TARGA_ALPHA_BITS, TARGA_DESCRIPTOR, Structure
from panelworks.pictures.tiff_deep import REDUCED_NOTE, colour_map_of_bytes, load_deep


@dataclass(frozen=True)
class Header:
    """Format, size and frames of a picture, from the structure of its file."""

    format: str
    """Name in lower case, such as `png`."""
    width: int
    height: int
    """Size in pixels after the EXIF orientation is applied."""
    frames: int


@dataclass(frozen=True)
class OpenedFile:
    """A file whose structure was read, but not its pixels."""

    header: Header
    structure: Structure
    orientation: int
    """EXIF orientation that must be applied to the pixels, 1..8."""
    image: Image.Image | None
    """Pillow's lazily opened image; None for WebP, which it does not decode."""


@dataclass(frozen=True)
class LoadedPixels:
    """Decoded pixels, before orientation and conversion to sRGB."""

    image: Image.Image
    damage: str | None = None
    notes: tuple[str, ...] = ()
    is_srgb: bool = False
    """Are its colours already converted?"""


def load_pixels(file: OpenedFile) -> LoadedPixels:
    """Decode the pixels with the decoder of the format.

    Raises:
        Rejected: `unsupported_format`, `damaged`, `truncated`.
        OSError: the data ends early.
    """
    image, structure = file.image, file.structure
    if image is None and file.header.format == "webp":
        return LoadedPixels(*webp_chunks.load_webp(structure))
    if image is None:
        with libtiff.collect_errors() as errors:
            deep_image = load_deep(bytes(structure.data), structure.info["directory"])
        return LoadedPixels(deep_image, libtiff.summarize(errors) if errors else None, (REDUCED_NOTE,))
    if file.header.format == "png":
        deep = _deep_colour(file)
        return deep or LoadedPixels(*png_chunks.load_png(image, structure))
    if file.header.format == "jpeg":
        return LoadedPixels(*jpeg_stream.load_jpeg(image, structure))
    if file.header.format == "tiff":
        return _load_tiff(image, structure.info["directory"])
    image.load()
    return _without_unused_alpha(image, structure.data)


def _without_unused_alpha(image: Image.Image, data: bytes | memoryview) -> LoadedPixels:
    """Remove the alpha channel of a BMP or TGA if it is zero everywhere, or has no alpha bits in the header."""
    if image.format not in ("BMP", "TGA") or image.mode not in ("RGBA", "LA"):
        return LoadedPixels(image)
    colours = "L" if image.mode == "LA" else "RGB"
    if image.format == "TGA" and not data[TARGA_DESCRIPTOR] & TARGA_ALPHA_BITS:
        return LoadedPixels(image.convert(colours))
    if image.getchannel("A").getextrema() == (0, 0):
        return LoadedPixels(
            image.convert(colours), None, ("an alpha channel that is zero everywhere was ignored",)
        )
    return LoadedPixels(image)


def _load_tiff(image: Image.Image, page: tiff_directories.Directory) -> LoadedPixels:
    """Load the pixels, with the errors that libtiff reports.

    Raises:
        Rejected: `unsupported_format`, `damaged`.
        OSError: the data ends early.
    """
    with libtiff.collect_errors() as errors:
        try:
            image.load()
        except OSError as error:
            if not errors:
                raise
            raise libtiff.decode_error(errors) from error
    damage = libtiff.summarize(errors) if errors else None
    colours = colour_map_of_bytes(page)
    if colours is None or image.mode != "P":
        return LoadedPixels(image, damage)
    image.putpalette(colours)
    return LoadedPixels(image, damage, ("the colour map holds 8-bit values and was read as such",))


def _deep_colour(file: OpenedFile) -> LoadedPixels | None:
    """16-bit colour of a PNG in a colour space other than sRGB, converted before the reduction to 8 bits; None for others."""
    data, info = bytes(file.structure.data), file.structure.info
    space = None if "icc_profile" in info and not outranks_profile(info) else colour_space_of(info)
    if space is None or data[24] != 16 or data[25] not in (2, 6):
        return None
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if (
        values is None
        or values.dtype != np.uint16
        or values.ndim != 3
        or values.shape[2] != {2: 3, 6: 4}[data[25]]
    ):
        return None
    png_chunks.refuse_missing_rows(values[-2:], data)
    image = Image.fromarray(space.to_srgb(np.ascontiguousarray(values[:, :, 2::-1])))
    if values.shape[2] == 4:
        image.putalpha(Image.fromarray(((values[:, :, 3].astype(np.uint32) + 128) // 257).astype(np.uint8)))
    return LoadedPixels(image, None, (REDUCED_NOTE, f"converted to sRGB from {space.name}"), is_srgb=True)


def stated_colour_space(image: Image.Image, file: OpenedFile) -> ColourSpace | None:
    """The colour space in the metadata, apart from a profile. A profile of lower priority is removed from the image."""
    if file.header.format == "png":
        if outranks_profile(file.structure.info):
            image.info.pop("icc_profile", None)
        return colour_space_of(file.structure.info)
    if file.header.format == "jpeg" and image.mode == "RGB" and _is_adobe_rgb(file.image):
        return adobe_rgb()
    return None


def _is_adobe_rgb(image: Image.Image | None) -> bool:
    """Does EXIF state the interoperability rule R03 (DCF optional file, Adobe RGB)?"""
    try:
        return image is not None and image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    except Exception:  # noqa: BLE001 - a damaged EXIF block must not fail the page
        return False
