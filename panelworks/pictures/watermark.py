"""Drawing watermarks on pictures."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from panelworks.domain.watermark import Watermark
from panelworks.errors import Rejected
from panelworks.pictures.picture import Picture, Pixels, from_image, to_image
from panelworks.pictures.resample import fit_size, resize

_TEXT_PIXELS: Final = 96
"""Height of the font at which text is drawn before it is resized, at least."""
_MAX_TEXT_WIDTH: Final = 4096
_STROKE_SHARE: Final = 0.06
"""Width of the outline of text, as a share of the height of the font."""
_MISSING: Final = "\U0010fffd"
"""A character that no font has."""
_TILE_GAP_SHARE: Final = 0.5
"""Space between repeated watermarks, as a share of their size."""


def check_text(text: str) -> None:
    """Refuse text with characters that the bundled font of Pillow does not have.

    Raises:
        Rejected: `watermark_text`.
    """
    font = _font(24)
    missing = bytes(font.getmask(_MISSING))
    strange = [letter for letter in text if letter != " " and bytes(font.getmask(letter)) == missing]
    if strange:
        raise Rejected(
            "watermark_text",
            f"The font of watermarks has no character '{strange[0]}'; use a picture as watermark for other scripts.",
        )


def draw_text(text: str, colour: str) -> Picture:
    """A line of text with an outline, on a transparent ground; gray if its colour is."""
    font = _font(_TEXT_PIXELS)
    stroke = max(1, round(_TEXT_PIXELS * _STROKE_SHARE))
    box = [round(side) for side in font.getbbox(text, stroke_width=stroke)]
    size = (min(_MAX_TEXT_WIDTH, max(1, box[2] - box[0])), max(1, box[3] - box[1]))
    levels = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    outline = (0, 0, 0) if sum(levels) > 384 else (255, 255, 255)
    image = Image.new("RGBA", size, (*outline, 0))
    ImageDraw.Draw(image).text(
        (-box[0], -box[1]), text, font=font, fill=(*levels, 255), stroke_width=stroke, stroke_fill=(*outline, 255)
    )  # fmt: skip
    return from_image(image)


def _font(pixels: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(pixels)
    if not isinstance(font, ImageFont.FreeTypeFont):  # Pillow without FreeType, which its wheels contain
        raise Rejected("watermark_text", "This installation of Pillow cannot draw text; use a picture.")
    return font


def apply_watermark(picture: Picture, mark: Picture, spec: Watermark) -> Picture:
    """Draw a mark on a picture, which stays gray only if the mark is. The mark is reduced to fit, and never larger than
    the picture."""
    room = tuple(max(1, side - 2 * _margin(picture, spec)) for side in picture.size)
    width = max(1, round(picture.width * spec.size))
    size = fit_size((width, max(1, round(width * mark.height / mark.width))), (room[0], room[1]))
    small = resize(mark, size)
    if picture.is_gray and not _is_gray(small):
        picture = Picture(picture.rgb(), picture.alpha)
    pixels = picture.pixels.copy()
    alpha = None if picture.alpha is None else picture.alpha.copy()
    for left, top in _places(picture, size, spec):
        _blend(pixels, alpha, small, left, top, spec.opacity)
    return Picture(pixels, alpha)


def _is_gray(mark: Picture) -> bool:
    return mark.is_gray or bool((mark.pixels == mark.pixels[:, :, :1]).all())


def _margin(picture: Picture, spec: Watermark) -> int:
    return round(min(picture.size) * spec.margin) if min(picture.size) > 2 else 0


def _places(picture: Picture, size: tuple[int, int], spec: Watermark) -> list[tuple[int, int]]:
    if spec.tiled:
        steps = [max(1, side + max(8, round(side * _TILE_GAP_SHARE))) for side in size]
        rows = range(-size[1] // 2, picture.height, steps[1])
        return [
            (left - (number % 2) * steps[0] // 2, top)
            for number, top in enumerate(rows)
            for left in range(0, picture.width + steps[0], steps[0])
        ]
    margin = _margin(picture, spec)
    free = [side - used for side, used in zip(picture.size, size, strict=True)]
    across = 0.0 if "left" in spec.position else 1.0 if "right" in spec.position else 0.5
    down = 0.0 if "top" in spec.position else 1.0 if "bottom" in spec.position else 0.5
    return [
        (
            round(min(free[0], max(0, margin + across * (free[0] - 2 * margin)))),
            round(min(free[1], max(0, margin + down * (free[1] - 2 * margin)))),
        )
    ]


def _blend(pixels: Pixels, alpha: Pixels | None, mark: Picture, left: int, top: int, opacity: float) -> None:
    """Draw a mark at a place of HxWxC pixels, in place; parts outside are left out."""
    height, width = pixels.shape[:2]
    x, y, right, bottom = (
        max(0, left),
        max(0, top),
        min(width, left + mark.width),
        min(height, top + mark.height),
    )
    if x >= right or y >= bottom:
        return
    rows, columns = slice(y - top, bottom - top), slice(x - left, right - left)
    levels = mark.pixels[rows, columns]
    levels = (
        levels if levels.shape[2] == pixels.shape[2] else levels[:, :, :1].repeat(pixels.shape[2], axis=2)
    )
    cover = np.full(levels.shape[:2], opacity, dtype=np.float32)
    if mark.alpha is not None:
        cover *= mark.alpha[rows, columns].astype(np.float32) / 255
    target = pixels[y:bottom, x:right].astype(np.float32)
    if alpha is None:
        mixed = target + (levels - target) * cover[:, :, None]
    else:
        below = alpha[y:bottom, x:right].astype(np.float32) / 255
        total = cover + below * (1 - cover)
        share = cover / np.maximum(total, 1e-6)
        mixed = target + (levels - target) * share[:, :, None]
        alpha[y:bottom, x:right] = np.rint(total * 255).astype(np.uint8)
    pixels[y:bottom, x:right] = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def place_on_background(picture: Picture, size: tuple[int, int], colour: str) -> Picture:
    """A picture in the middle of a background of `size` (width, height), without alpha. It must not be larger."""
    levels = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    gray = picture.is_gray and len(set(levels)) == 1
    ground = Image.new("L" if gray else "RGB", size, levels[0] if gray else tuple(levels))
    image = to_image(picture if gray or not picture.is_gray else Picture(picture.rgb(), picture.alpha))
    corner = ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2)
    ground.paste(image, corner, image.getchannel("A") if picture.alpha is not None else None)
    return from_image(ground)
