"""Resizing, by default with a windowed sinc (Lanczos, 3 lobes), without fringes at transparent edges."""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import cv2
import numpy as np
from PIL import Image

from panelworks.pictures.parallel import compute_together
from panelworks.pictures.picture import Picture, Pixels, from_image, to_image


def fit_size(size: tuple[int, int], box: tuple[int | None, int | None]) -> tuple[int, int]:
    """The largest (width, height) of the same aspect ratio inside `box`, never larger than `size`.

    A side of the box that is None is not a limit.
    """
    ratios = [limit / side for side, limit in zip(size, box, strict=True) if limit is not None]
    ratio = min([1.0, *ratios])
    return (max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio)))


FILTERS: Final = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "hamming": Image.Resampling.HAMMING,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
"""Resampling filters by name, the sharpest first. `nearest` preserves pixel art."""


def resize(picture: Picture, size: tuple[int, int], filter: str = "lanczos") -> Picture:
    """Resize a picture to exactly `size` (width, height) with one of `FILTERS`."""
    if size == picture.size:
        return picture
    # Pillow weights colour by alpha, so that hidden colour does not bleed.
    return from_image(to_image(picture).resize(size, FILTERS[filter]))


def resize_part(picture: Picture, size: tuple[int, int], box: tuple[int, int, int, int]) -> Picture:
    """The part `box` (left, top, width, height) of a picture at `size` (width, height), without resizing the rest.

    Reduced by the filter of the variants, enlarged by bicubic interpolation as a viewer does it.
    """
    left, top, width, height = box
    if size == picture.size:
        return picture.region(left, top, width, height)
    across, down = picture.width / size[0], picture.height / size[1]
    wanted = (left * across, top * down, (left + width) * across, (top + height) * down)
    margins = (math.ceil(3 * max(1.0, across)), math.ceil(3 * max(1.0, down)))  # the reach of the filter
    corner = (max(0, int(wanted[0]) - margins[0]), max(0, int(wanted[1]) - margins[1]))
    end = (
        min(picture.width, math.ceil(wanted[2]) + margins[0]),
        min(picture.height, math.ceil(wanted[3]) + margins[1]),
    )
    around = picture.region(*corner, end[0] - corner[0], end[1] - corner[1])
    inside = (
        wanted[0] - corner[0],
        wanted[1] - corner[1],
        min(wanted[2] - corner[0], around.width),
        min(wanted[3] - corner[1], around.height),
    )
    filter = "lanczos" if across >= 1 else "bicubic"
    return from_image(to_image(around).resize((width, height), FILTERS[filter], inside))


def shrinker(picture: Picture) -> Callable[[tuple[int, int]], Picture]:
    """A function that resizes a picture as `resize` does, for several sizes: it is converted for Pillow once.

    Channels are resized at the same time. The function may be called in several threads.
    """
    opaque = picture.alpha is None
    planes = cv2.split(picture.pixels) if opaque else ()
    images = [Image.fromarray(plane) for plane in planes] or [to_image(picture)]

    def resized(size: tuple[int, int]) -> Picture:
        if size == picture.size:
            return picture
        calls = [partial(image.resize, size, FILTERS["lanczos"]) for image in images]
        done = compute_together(calls)
        if not opaque:
            return from_image(done[0])
        joined = np.asarray(cv2.merge([np.asarray(image) for image in done]), dtype=np.uint8)
        return Picture(joined.reshape(size[1], size[0], -1))

    return resized


def resize_plane(plane: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize an HxW plane to exactly `size` (width, height)."""
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS))


def fill_transparent(picture: Picture) -> Picture:
    """Fill invisible pixels with the colour of their visible neighbours. Alpha is unchanged.

    Files often have black there, which a network would draw into the edge of the figure. The fill is a pull-push
    pyramid (Gortler et al., The Lumigraph, 1996, section 3.4).
    """
    if picture.alpha is None:
        return picture
    return Picture(from_image(_fill_colours(to_image(picture))).pixels, picture.alpha)


def _fill_colours(image: Image.Image) -> Image.Image:
    """The colours of an LA or RGBA image. Hidden ones come from the half-size image, which is filled likewise."""
    alpha = image.getchannel("A")
    colour = image.convert("L" if image.mode == "LA" else "RGB")
    if alpha.getextrema()[0] or image.size == (1, 1):
        return colour
    below = _fill_colours(image.reduce(2)).resize(image.size, Image.Resampling.NEAREST)
    colour.paste(below, (0, 0), alpha.point([255] + [0] * 255))
    return colour
