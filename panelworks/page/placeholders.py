"""What clients can show of a page before it is enhanced: a placeholder of some bytes, and a preview of some kilobytes."""

import base64
import io
from dataclasses import dataclass
from functools import partial
from typing import Final

from PIL import Image

from panelworks.domain.result import Placeholder
from panelworks.pictures import Picture, fit_size, resize
from panelworks.pictures.compression import limit_bytes
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import from_image, to_image
from panelworks.pictures.thumbhash import MAX_SIDE_PIXELS, average_colour, thumbhash

MAX_PREVIEW_BYTES: Final = 4000
PREVIEW_MEDIA_TYPE: Final = "image/webp"
_MAX_SIDE_PIXELS: Final = 256
_REDUCING_GAP: Final = 3.0
"""A large picture is first averaged down to this multiple of the size: as good to the eye, and several times faster."""
_SHRINK: Final = 0.75
"""A preview that has too many bytes at the lowest quality is made smaller by this factor."""
_HIGHEST_QUALITY: Final = 80
_LOWEST_QUALITY: Final = 15
"""Looked at: at 192 pixels and this quality, faces and lettering are clearer than at 108 pixels and quality 40."""


@dataclass(frozen=True)
class EarlyView:
    """A placeholder and the file of a preview."""

    placeholder: Placeholder
    preview: bytes
    """WebP with at most `MAX_PREVIEW_BYTES`."""
    size: tuple[int, int]
    """Width and height of the preview."""


def make_early_view(picture: Picture) -> EarlyView:
    """The placeholder and the preview of a picture. In the preview, transparent pixels are white."""
    image = to_image(picture)
    if max(image.size) > _MAX_SIDE_PIXELS:
        side = (_MAX_SIDE_PIXELS, _MAX_SIDE_PIXELS)
        image = image.resize(fit_size(image.size, side), Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    small = from_image(image)
    data, size = _make_preview(flatten_on_white(small))
    return EarlyView(_make_placeholder(small), data, size)


def _make_placeholder(picture: Picture) -> Placeholder:
    small = resize(picture, fit_size(picture.size, (MAX_SIDE_PIXELS, MAX_SIDE_PIXELS)))
    red, green, blue = average_colour(small)
    return Placeholder(
        thumbhash=base64.b64encode(thumbhash(small)).decode(), colour=f"#{red:02x}{green:02x}{blue:02x}"
    )


def _make_preview(picture: Picture) -> tuple[bytes, tuple[int, int]]:
    """A WebP and its size. It has no colour profile, which would take an eighth of the bytes: browsers assume sRGB."""
    side = float(max(picture.size))
    while True:
        write = partial(_to_webp, to_image(picture).convert("RGB"))
        made = limit_bytes(write, _HIGHEST_QUALITY, _LOWEST_QUALITY, MAX_PREVIEW_BYTES)
        if made.fits:
            return made.data, picture.size
        side *= _SHRINK
        picture = resize(picture, fit_size(picture.size, (round(side), round(side))))


def _to_webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
