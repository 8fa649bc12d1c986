"""Tiles of a page: they fit together, source and master in one grid, and a wrong place is refused."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Rejected
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import get_engine
from panelworks.page.views import (
    THUMBNAIL_PIXELS,
    TILE_PIXELS,
    Layer,
    PageViews,
    count_levels,
    cut_part,
    level_size,
    make_thumbnail,
)
from panelworks.pictures.picture import from_image
from tests.pages import file_of, psnr, write_page

MIN_PSNR_DB = 30
"""Of tiles, which are compressed, to the picture."""


@pytest.fixture
def result(tmp_path: Path) -> PageResult:
    page = write_page(tmp_path / "page.png", 300, 420)
    return enhance_directly(PageRequest(source=str(page), out=str(tmp_path / "out"), job_id="views"))


def assemble(views: PageViews, result: PageResult, layer: Layer, level: int) -> npt.NDArray[np.uint8]:
    """Put all tiles of a level together."""
    assert result.master is not None
    width, height = level_size((result.master.width, result.master.height), level)
    whole = Image.new("RGB", (width, height), "magenta")
    for row in range(-(-height // TILE_PIXELS)):
        for column in range(-(-width // TILE_PIXELS)):
            data, media_type = views.tile(result, layer, level, column, row)
            assert media_type == "image/webp"
            whole.paste(Image.open(io.BytesIO(data)), (column * TILE_PIXELS, row * TILE_PIXELS))
    return np.asarray(whole)


def test_tiles_fit_together_to_the_picture(result: PageResult, tmp_path: Path) -> None:
    assert result.master is not None
    size = (result.master.width, result.master.height)
    assert max(size) > TILE_PIXELS, "the page has several tiles"
    (master,) = (tmp_path / "out").glob("*/page-*.png")
    files: dict[Layer, Path] = {"source": tmp_path / "page.png", "master": master}
    for layer, path in files.items():
        views = PageViews(get_engine())
        with Image.open(path) as image:
            picture = image.convert("RGB")
        for level in range(count_levels(size)):
            whole = picture.resize(level_size(size, level), Image.Resampling.BICUBIC)
            tiles = assemble(views, result, layer, level)
            assert psnr(tiles, np.asarray(whole)) > MIN_PSNR_DB, (layer, level)


@pytest.mark.parametrize("size", [(1, 1), (513, 7), (40, 4000), (1537, 1024)])
def test_the_last_level_is_one_tile(size: tuple[int, int]) -> None:
    levels = count_levels(size)
    assert max(level_size(size, levels - 1)) <= TILE_PIXELS
    assert levels == 1 or max(level_size(size, levels - 2)) > TILE_PIXELS


def test_a_part_equals_that_of_the_whole() -> None:
    random = np.random.default_rng(3)
    picture = from_image(Image.fromarray(random.integers(0, 256, (90, 70, 3), dtype=np.uint8)))
    whole = cut_part(picture, (140, 180), (0, 0, 140, 180)).pixels.astype(int)
    part = cut_part(picture, (140, 180), (33, 51, 97, 130)).pixels.astype(int)
    assert np.abs(whole[51:130, 33:97] - part).max() <= 1


def test_a_tile_that_does_not_exist_is_refused(result: PageResult) -> None:
    for place in ((9, 0, 0), (0, 9, 0), (0, 0, 9), (-1, 0, 0), (0, -1, 0)):
        with pytest.raises(Rejected, match="no such"):
            PageViews(get_engine()).tile(result, "master", *place)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
def test_a_thumbnail_is_small(format: str) -> None:
    data = make_thumbnail(file_of(Image.new("RGB", (1440, 2100), "red"), format))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, max(image.size)) == ("WEBP", THUMBNAIL_PIXELS)
