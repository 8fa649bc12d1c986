"""The pixels of an opened file, as its decoder gives them, and the colour space that the file states for them."""

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
    """What the first bytes of a file say."""

    format: str
    """Lower-case name, such as `png`."""
    width: int
    height: int
    """Size after the EXIF orientation is applied."""
    frames: int


@dataclass(frozen=True)
class OpenedFile:
    """A file whose structure was read; its pixels were not."""

    header: Header
    structure: Structure
    orientation: int
    """EXIF orientation that must still be applied, 1..8."""
    image: Image.Image | None
    """Pillow's lazily opened image; None for WebP, which it does not decode."""


@dataclass(frozen=True)
class LoadedPixels:
    """Decoded pixels, not yet upright sRGB."""

    image: Image.Image
    damage: str | None = None
    notes: tuple[str, ...] = ()
    is_srgb: bool = False
    """Were its colours converted already?"""


def load_pixels(file: OpenedFile) -> LoadedPixels:
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
    """Fewer channels for a BMP or TGA whose fourth byte is no alpha: zero everywhere, or without alpha bits in its header."""
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
    """The pixels, and what libtiff reports about them.

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
    """16-bit colour of a PNG in another space than sRGB, converted before it is reduced to 8 bits."""
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
    """What the file says of its colours beside a profile; a profile that it outranks is dropped."""
    if file.header.format == "png":
        if outranks_profile(file.structure.info):
            image.info.pop("icc_profile", None)
        return colour_space_of(file.structure.info)
    if file.header.format == "jpeg" and image.mode == "RGB" and _is_adobe_rgb(file.image):
        return adobe_rgb()
    return None


def _is_adobe_rgb(image: Image.Image | None) -> bool:
    """Does EXIF name the interoperability rule R03 (DCF optional file, Adobe RGB)?"""
    try:
        return image is not None and image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    except Exception:  # noqa: BLE001 - a broken EXIF block must not lose the page
        return False
