"""Views of a processed page for screens: tiles of the source and of the master, both at the size of the master.

Both are cut in the same grid, so that a viewer shows the same place of both. Level 0 has the master's size; each further
level halves it, down to one tile.
"""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal

from PIL import Image

from panelworks.domain.formats import MEDIA_TYPES
from panelworks.domain.result import ArtifactRef, PageResult
from panelworks.errors import ObjectMissing, Rejected
from panelworks.page.engine import Engine
from panelworks.pictures import Picture, encode
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.picture import from_image, to_image

TILE_PIXELS: Final = 512
THUMBNAIL_PIXELS: Final = 360
"""The longest side of a thumbnail."""
_THUMBNAIL_QUALITY: Final = 80
Layer = Literal["source", "master"]
_TILE_QUALITY: Final = 92
_MARGIN_PIXELS: Final = 4
"""Pixels around a tile that resizing reads: tiles fit together without a seam."""
_RECENT_PICTURES: Final = 2
"""Pictures that stay decoded whatever their size: the source and the master that somebody looks at."""


def count_levels(size: tuple[int, int]) -> int:
    """Number of levels of a page of `size` (width, height)."""
    levels, longest = 1, max(size)
    while longest > TILE_PIXELS:
        longest = -(-longest // 2)
        levels += 1
    return levels


def level_size(size: tuple[int, int], level: int) -> tuple[int, int]:
    """Width and height of a page of `size` at a level; fractions are rounded up."""
    return -(-size[0] // 2**level), -(-size[1] // 2**level)


class RecentPictures:
    """The pictures that somebody looks at stay decoded. Safe in threads."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, load: Callable[[], Picture]) -> Picture:
        """The picture of this name; it is loaded unless it was looked at just now."""
        with self._lock:  # tiles of a page are requested together: it is decoded once
            picture = self._pictures.get(name)
            if picture is None:
                picture = self._pictures[name] = load()
            self._pictures.move_to_end(name)
            while len(self._pictures) > _RECENT_PICTURES:
                self._pictures.popitem(last=False)
            return picture


class PageViews:
    """Makes tiles. Pictures that were looked at last stay decoded."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recent = RecentPictures()

    def tile(
        self, result: PageResult, layer: Layer, level: int, column: int, row: int,
        size: tuple[int, int] | None = None,
    ) -> tuple[bytes, str]:  # fmt: skip
        """Cut one tile; returns its bytes and their media type.

        Args:
            result: The result of the page.
            layer: Whether the source or the master is shown.
            level: 0 for the master's size; each further level halves it.
            column: Of the tile, from the left.
            row: Of the tile, from the top.
            size: Width and height that the picture is shown in; by default those of the master.

        Raises:
            Rejected: `not_found`, there is no such tile, or the picture is no longer stored.
        """
        if result.master is None or result.source is None:
            raise Rejected("not_found", "The page has no pictures.")
        page = size or (result.master.width, result.master.height)
        artifact = result.master if layer == "master" else result.source.artifact
        return cut_tile(lambda: self._picture(artifact), page, level, column, row)

    def _picture(self, artifact: ArtifactRef) -> Picture:
        try:
            return self._recent.get(artifact.sha256, lambda: self._engine.picture(artifact))
        except ObjectMissing as error:
            raise Rejected("not_found", "The picture is no longer stored.") from error


def cut_tile(
    load: Callable[[], Picture], page: tuple[int, int], level: int, column: int, row: int
) -> tuple[bytes, str]:
    """Cut one tile out of a picture that is shown in the size `page`; returns its bytes and their media type.

    Raises:
        Rejected: `not_found`, there is no such tile; the picture is not loaded then.
    """
    if not 0 <= level < count_levels(page):
        raise Rejected("not_found", "The page has no such level.")
    width, height = level_size(page, level)
    left, top = column * TILE_PIXELS, row * TILE_PIXELS
    if not (0 <= left < width and 0 <= top < height):
        raise Rejected("not_found", "The page has no such tile.")
    right, bottom = min(left + TILE_PIXELS, width), min(top + TILE_PIXELS, height)
    tile = cut_part(load(), (width, height), (left, top, right, bottom))
    return encode(tile, "webp", _TILE_QUALITY), MEDIA_TYPES["webp"]


def cut_part(picture: Picture, size: tuple[int, int], box: tuple[int, int, int, int]) -> Picture:
    """Resize a picture to `size` (width, height) and cut a box (left, top, right, bottom) out of it: bicubic, on white.

    Only the pixels of the box, and a margin for the filter, are read.
    """
    across, down = picture.width / size[0], picture.height / size[1]
    wanted = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    margins = (_MARGIN_PIXELS * max(1.0, across), _MARGIN_PIXELS * max(1.0, down))
    left, top = max(0, int(wanted[0] - margins[0])), max(0, int(wanted[1] - margins[1]))
    right = min(picture.width, int(wanted[2] + margins[0]) + 1)
    bottom = min(picture.height, int(wanted[3] + margins[1]) + 1)
    part = flatten_on_white(picture.region(left, top, right - left, bottom - top))
    image = to_image(part)
    inner = (wanted[0] - left, wanted[1] - top, wanted[2] - left, wanted[3] - top)
    inner = (inner[0], inner[1], min(inner[2], float(image.width)), min(inner[3], float(image.height)))
    resized = image.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC, box=inner)
    return from_image(resized)


def make_thumbnail(data: bytes) -> bytes:
    """A small WebP picture of an encoded variant."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft(
            "RGB", (2 * THUMBNAIL_PIXELS, 2 * THUMBNAIL_PIXELS)
        )  # JPEG is decoded at a fraction of its size
        image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS), Image.Resampling.BICUBIC, reducing_gap=2.0)
        small = from_image(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    return encode(flatten_on_white(small), "webp", _THUMBNAIL_QUALITY)
