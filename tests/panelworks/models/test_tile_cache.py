"""Tiles that did not change are not computed again."""

import numpy as np
import pytest

from panelworks.models.network import Tensor
from panelworks.models.tile_cache import MAX_AGE_FRAMES, TileCache
from panelworks.models.tiling import run_pages
from tests.animations import blink
from tests.panelworks.models.test_tiling import Repeat

TILE = np.random.default_rng(1).random((1, 3, 8, 8)).astype(np.float32)


def other(number: int) -> Tensor:
    return (TILE + np.float32(number)).astype(np.float32)


def test_a_known_tile_is_found_with_the_rounding_of_its_first_result() -> None:
    tiles = TileCache(10**6)
    tiles.begin_frame()
    assert tiles.find(TILE) is None
    first = tiles.add(TILE, TILE[0])
    assert np.abs(first - TILE[0]).max() * 255 <= 0.07
    tiles.begin_frame()
    again = tiles.find(TILE)
    assert again is not None
    assert np.array_equal(first, again)
    again += 1  # the caller may modify it
    third = tiles.find(TILE)
    assert third is not None
    assert np.array_equal(first, third)


def test_tiles_that_do_not_return_are_removed() -> None:
    tiles = TileCache(10**6)
    tiles.begin_frame()
    tiles.add(TILE, TILE[0])
    for _ in range(MAX_AGE_FRAMES):
        tiles.begin_frame()
    assert tiles.find(TILE) is not None
    for _ in range(MAX_AGE_FRAMES + 1):
        tiles.begin_frame()
    assert tiles.find(TILE) is None


def test_the_tiles_of_the_last_frames_have_precedence_when_it_is_full() -> None:
    tiles = TileCache(2 * TILE[0].size * 2)
    for _ in range(3):
        tiles.begin_frame()
        for number in range(5):
            if tiles.find(other(number)) is None:
                tiles.add(other(number), other(number)[0])
    assert tiles.reused == 4


@pytest.mark.parametrize("batch", [1, 3])
def test_a_frame_computes_only_what_changed(batch: int) -> None:
    first, second = (frame.pixels for frame in blink(300, 260))
    tiles = TileCache(10**8)
    network = Repeat()
    counts, results = [], []
    for pixels in (first, second, first):
        tiles.begin_frame()
        before = tiles.computed
        results.append(next(run_pages(network, [pixels], 64, batch, known=tiles)))
        counts.append(tiles.computed - before)
    assert counts[0] >= 12
    assert counts[1] <= 4
    assert counts[2] == 0
    assert np.array_equal(results[0], results[2])
    for pixels, result in zip((first, second), results, strict=False):
        alone = next(run_pages(network, [pixels], 64, batch))
        assert np.abs(alone.astype(int) - result).max() <= 1
