"""Conversion of every Pillow mode and colour profile to 8-bit sRGB or gray."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from panelworks.errors import Rejected
from panelworks.pictures.colour_tags import ColourSpace, encode_gray, gray_curve
from panelworks.pictures.picture import Picture, Pixels

_BAND_ROWS = 1024
"""Rows that are converted at once, so that a large picture is not held three times."""


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """An sRGB ICC profile with constant bytes (LittleCMS writes the date at bytes 24..35)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)
    return bytes(profile)


def to_picture(
    image: Image.Image, *, white_is_zero: bool = False, space: ColourSpace | None = None
) -> tuple[Picture, tuple[str, ...]]:
    """Convert an upright Pillow image. Return its picture and notes on the conversion for people.

    Sixteen-bit gray is divided by 257, float 0..1 multiplied by 255. A colour picture with three equal channels becomes
    gray. An alpha channel that is opaque everywhere is dropped. `white_is_zero` inverts deep gray, which some scanners
    store that way. `space` is the colour space stated by the file, used if it has no usable profile.

    Raises:
        Rejected: `unsupported_format`, a mode whose value range is unknown.
    """
    notes: list[str] = []
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        notes.append("reduced to 8 bits a channel")
        curve = None if image.mode in ("I", "F") else gray_curve(image.info.get("icc_profile", b""))
        if curve is None and space is not None and image.mode != "F":
            curve = space.to_linear
            notes.append(_converted_note(space))
        if curve is None:
            deep = _reduce_deep_gray(image)
            return Picture(255 - deep if white_is_zero else deep), tuple(notes)
        values = np.asarray(image).astype(np.uint16)
        return Picture(encode_gray(65535 - values if white_is_zero else values, curve)), tuple(notes)
    transparent = image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
    alpha: Pixels | None = None
    if transparent:
        image = _convert_with_profile(image, "LA" if image.mode in ("L", "LA", "La", "1") else "RGBA")
        alpha = _copy_pixels(image.getchannel("A"))[:, :, 0]
        if bool((alpha == 255).all()):
            alpha = None
        image = _convert_with_profile(image, "L" if image.mode == "LA" else "RGB")
    profiled = bool(image.info.get("icc_profile"))
    image, converted = _to_srgb(image)
    if not converted:
        notes.append("unusable colour profile ignored")
    if image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    pixels = _copy_pixels(image)
    if space is not None and not (profiled and converted):
        pixels = space.to_srgb(pixels)
        notes.append(_converted_note(space))
    return Picture(_collapse_gray(pixels), alpha), tuple(notes)


def _converted_note(space: ColourSpace) -> str:
    return f"converted to sRGB from {space.name}"


def _convert_with_profile(image: Image.Image, mode: str) -> Image.Image:
    profile = image.info.get("icc_profile")
    converted = image if image.mode == mode else image.convert(mode)
    if profile:
        converted.info["icc_profile"] = profile
    return converted


def _to_srgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Apply the embedded profile. The flag is False if there is one that is not usable."""
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":  # its values are absolute colours
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        result = ImageCms.profileToProfile(image, lab, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB")
        return (image, False) if result is None else (result, True)
    if not profile or (image.mode == "RGB" and profile == srgb_profile()):
        return image, True
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if image.mode == "P":
            image = image.convert("RGB")
        fits = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}.get(image.mode) == space
        if not fits:
            return image, False
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
        result = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        if result is not None and space == "GRAY":
            # Rounding makes the channels differ by up to one level; a gray page stays gray.
            result = result.getchannel("G")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, False
    return (image, False) if result is None else (result, True)


def _reduce_deep_gray(image: Image.Image) -> Pixels:
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0)
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 1:
            values = values * 255
        elif low < 0 or high > 255:
            raise Rejected(
                "unsupported_format",
                f"This floating-point picture has values from {low:g} to {high:g}; only 0..1 and 0..255 are supported.",
            )
        rounded: Pixels = np.rint(values).astype(np.uint8)
        return rounded[:, :, None]
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise Rejected(
            "unsupported_format",
            "This gray picture of 32 bits a channel has values beyond 0..65535; its white is unknown.",
        )
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)[:, :, None]


def _copy_pixels(image: Image.Image) -> Pixels:
    """Copy the HxWxC pixels of an L or RGB image in bands."""
    channels = len(image.getbands())
    pixels = np.empty((image.height, image.width, channels), dtype=np.uint8)
    for top in range(0, image.height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, image.height)
        band = np.asarray(image.crop((0, top, image.width, bottom)))
        pixels[top:bottom] = band.reshape(bottom - top, image.width, channels)
    return pixels


def _collapse_gray(pixels: Pixels) -> Pixels:
    if pixels.shape[2] == 1:
        return pixels
    for top in range(0, pixels.shape[0], _BAND_ROWS):
        band = pixels[top : top + _BAND_ROWS]
        if not (
            np.array_equal(band[:, :, 0], band[:, :, 1]) and np.array_equal(band[:, :, 0], band[:, :, 2])
        ):
            return pixels
    return np.ascontiguousarray(pixels[:, :, :1])
