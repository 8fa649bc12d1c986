"""Resizing with a windowed sinc (Lanczos, 3 lobes), alpha handled so that no fringe appears."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.pictures.picture import Picture, Pixels

Floats = npt.NDArray[np.float32]


def fit_size(size: tuple[int, int], box: tuple[int | None, int | None]) -> tuple[int, int]:
    """The largest (width, height) of the same aspect inside `box`, never above `size`.

    A side of the box that is None does not bound.
    """
    ratios = [limit / side for side, limit in zip(size, box, strict=True) if limit is not None]
    ratio = min([1.0, *ratios])
    return (max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio)))


def resize(picture: Picture, size: tuple[int, int]) -> Picture:
    """The picture at exactly `size` (width, height)."""
    if size == picture.size:
        return picture
    if picture.alpha is None:
        return Picture(_resize(picture.pixels, size))
    filled = fill_transparent(picture)
    return Picture(_resize(filled.pixels, size), resize_plane(picture.alpha, size))


def resize_plane(plane: Pixels, size: tuple[int, int]) -> Pixels:
    """An HxW plane at exactly `size` (width, height)."""
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS))


def _resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if pixels.shape[2] == 1:
        return resize_plane(pixels[:, :, 0], size)[:, :, None]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def fill_transparent(picture: Picture) -> Picture:
    """Give invisible pixels the colour of their visible neighbours, alpha unchanged.

    Files often hold black there; a resampler or network would draw it into the edge of the figure.
    The fill is a pull-push pyramid (Gortler et al., The Lumigraph, 1996, section 3.4).
    """
    if picture.alpha is None:
        return picture
    visible = (picture.alpha > 0).astype(np.float32)
    colour = _pull_push(picture.pixels.astype(np.float32) * visible[:, :, None], visible)
    hidden = picture.alpha == 0
    pixels = picture.pixels.copy()
    pixels[hidden] = np.clip(np.rint(colour[hidden]), 0, 255).astype(np.uint8)
    return Picture(pixels, picture.alpha)


def _pull_push(weighted: Floats, weight: Floats) -> Floats:
    """Colours HxWxC for every pixel, from `weighted` ones where `weight` HxW is above zero."""
    height, width = weight.shape
    known = weight > 0
    colour = np.zeros_like(weighted)
    colour[known] = weighted[known] / weight[known][:, None]
    if known.all() or (height == 1 and width == 1):
        return colour
    pad = ((0, height % 2), (0, width % 2))
    below = _pull_push(_halve(np.pad(weighted, (*pad, (0, 0)))), _halve(np.pad(weight, pad)))
    colour[~known] = below.repeat(2, axis=0).repeat(2, axis=1)[:height, :width][~known]
    return colour


def _halve(values: Floats) -> Floats:
    """Sums over squares of 2x2, for HxW or HxWxC with even sides."""
    height, width = values.shape[:2]
    halved: Floats = values.reshape(height // 2, 2, width // 2, 2, -1).sum(axis=(1, 3))
    return halved.reshape(height // 2, width // 2, *values.shape[2:])
