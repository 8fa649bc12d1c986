"""A contact sheet: small pictures of frames in a grid, each with its time."""

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import Picture, from_image, to_image

CELL_PIXELS: Final = 400
"""Longest side of a picture on the sheet."""
_MAX_COLUMNS: Final = 6
_MARGIN_PIXELS: Final = 12
_CAPTION_PIXELS: Final = 28
_FONT_PIXELS: Final = 18
_BACKGROUND: Final = (24, 24, 24)
_INK: Final = (235, 235, 235)


class ContactSheet:
    """Collects small copies of frames; pictures in full size are not kept."""

    def __init__(self) -> None:
        self._cells: list[tuple[Image.Image, str]] = []

    def add(self, picture: Picture, caption: str) -> None:
        """Add a picture after the others."""
        image = to_image(flatten_on_white(picture)).convert("RGB")
        image.thumbnail((CELL_PIXELS, CELL_PIXELS), Image.Resampling.LANCZOS, reducing_gap=3.0)
        self._cells.append((image, caption))

    def __len__(self) -> int:
        return len(self._cells)

    def picture(self) -> Picture:
        """The sheet: up to six columns, about as wide as high in pictures.

        Raises:
            ValueError: it has no pictures.
        """
        if not self._cells:
            raise ValueError("a contact sheet needs a picture")
        width = max(image.width for image, _ in self._cells)
        height = max(image.height for image, _ in self._cells)
        columns = min(_MAX_COLUMNS, int(np.ceil(np.sqrt(len(self._cells)))))
        rows = -(-len(self._cells) // columns)
        across, down = width + _MARGIN_PIXELS, height + _CAPTION_PIXELS + _MARGIN_PIXELS
        sheet = Image.new(
            "RGB", (columns * across + _MARGIN_PIXELS, rows * down + _MARGIN_PIXELS), _BACKGROUND
        )
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PIXELS)
        for index, (image, caption) in enumerate(self._cells):
            left = _MARGIN_PIXELS + index % columns * across
            top = _MARGIN_PIXELS + index // columns * down
            sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
            draw.text(
                (left + width / 2, top + height + _CAPTION_PIXELS / 2), caption, _INK, font, anchor="mm"
            )
        return from_image(sheet)
