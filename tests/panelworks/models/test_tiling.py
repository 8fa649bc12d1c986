"""Tiles are invisible: compared with an untiled run, for any size, and if memory is short."""

import math
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.loading import Recipe, load_network
from panelworks.models.network import Network, Tensor
from panelworks.models.registry import card_for
from panelworks.models.tiling import FADE_PIXELS, run_pages, run_tiled, sample_tiles, tile_spans
from panelworks.pictures import decode
from panelworks.pictures.picture import Pixels
from panelworks.settings import Settings
from tests.pages import SAMPLE_PAGES, drawn


class Repeat:
    """A network that repeats pixels, so that the output is known."""

    margin = 4
    alignment = 1
    device = "test"
    precision = "fp32"
    bytes = bytes_per_pixel = 1

    def __init__(self, scale: int = 2, channels: int = 3, window: int | None = None) -> None:
        self.scale, self.channels, self.window = scale, channels, window
        self.calls = 0
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, tiles: Tensor) -> Tensor:
        self.calls += 1
        self.batches.append(tiles.shape)
        return tiles.repeat(self.scale, axis=2).repeat(self.scale, axis=3)

    def adapt_to_page(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return 2**30

    def close(self) -> None:
        pass


def repeated(pixels: Pixels, scale: int) -> Pixels:
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


@given(st.integers(1, 4000), st.integers(32, 512), st.integers(0, 40))
def test_spans_cover_each_pixel_once(length: int, tile: int, margin: int) -> None:
    found = tile_spans(length, tile, margin)
    size = tile + 2 * (margin + FADE_PIXELS)
    assert found[0].core[0] == 0
    assert found[-1].core[1] == length
    for before, after in pairwise(found):
        assert before.core[1] == after.core[0]
    for span in found:
        assert span.reach[1] - span.reach[0] == found[0].reach[1] <= size, "all tiles have one size"
        assert 0 <= span.reach[0] <= span.fade[0] <= span.core[0]
        assert span.core[1] <= span.fade[1] <= span.reach[1] <= length
        for edge, outer in zip(span.core, span.reach, strict=True):
            assert edge in (0, length) or abs(edge - outer) >= margin + FADE_PIXELS, (
                "a border has its context"
            )


@given(st.integers(1, 3000), st.integers(0, 12))
def test_a_network_may_prescribe_the_tile_size(length: int, margin: int) -> None:
    found = tile_spans(length, 999, margin, window=64)
    assert {span.reach[1] - span.reach[0] for span in found} == {min(64, length)}
    assert [span.core[0] for span in found[1:]] == [span.core[1] for span in found[:-1]]


@profile(deadline=None, max_examples=60)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(32, 80), st.integers(1, 4))
def test_combined_tiles_are_the_picture(width: int, height: int, tile: int, scale: int) -> None:
    pixels = (
        np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    )
    assert np.array_equal(run_tiled(Repeat(scale), pixels, tile), repeated(pixels, scale))


@pytest.mark.parametrize(("network_channels", "picture_channels"), [(3, 1), (1, 3), (1, 1)])
def test_gray_and_colour_work_with_any_network(network_channels: int, picture_channels: int) -> None:
    gray = drawn(70, 50, "screentone").pixels
    pixels = gray.repeat(picture_channels, axis=2)
    result = run_tiled(Repeat(2, network_channels), pixels, 48)
    assert np.abs(result.astype(int) - repeated(pixels, 2)).max() <= 1


@pytest.mark.parametrize("tile", [48, 64, 100])
def test_the_bundled_network_has_no_seams(tile: int, settings: Settings) -> None:
    network = load_network(Recipe(CARDS[BUNDLED]), settings)
    pixels = drawn(230, 190).pixels
    whole = run_tiled(network, pixels, 4096).astype(int)
    assert np.abs(run_tiled(network, pixels, tile).astype(int) - whole).max() <= 2


@pytest.mark.parametrize("page", SAMPLE_PAGES, ids=lambda page: page.stem)
def test_no_seam_shows_on_sample_pages(page: Path, settings: Settings) -> None:
    network = load_network(Recipe(CARDS[BUNDLED]), settings)
    pixels = decode(page.read_bytes(), settings).picture.region(200, 300, 200, 160).pixels
    whole = run_tiled(network, pixels, 4096).astype(int)
    assert np.abs(run_tiled(network, pixels, 64).astype(int) - whole).max() <= 2


@pytest.mark.parametrize("name", [BUNDLED, "realesr-animevideov3", "realesr-general-x4v3.from-ncnn-fp16.pth"])
@pytest.mark.parametrize(
    "page", ["pepper_e01_p03.webp", "alice_35.png", "derived_screentone_pepper_e01_p01.png"]
)
def test_real_pages_have_no_seams(name: str, page: str, assets: Path, settings: Settings) -> None:
    folder = assets / "weights"
    card = card_for(str(folder / name) if name.endswith(".pth") else name)
    network = load_network(Recipe(card), settings.model_copy(update={"model_path": (folder,)}))
    picture = decode((assets / "pages" / page).read_bytes(), settings).picture
    pixels = picture.region(500, 700, 200, 160).pixels
    whole = run_tiled(network, pixels, 4096).astype(int)
    assert np.abs(run_tiled(network, pixels, 64).astype(int) - whole).max() <= 2


def test_too_little_memory_halves_the_tile(caplog: pytest.LogCaptureFixture) -> None:
    class Small(Repeat):
        def __call__(self, tiles: Tensor) -> Tensor:
            if max(tiles.shape) > 100:
                raise ResourceExhausted("out_of_memory", "Too large.")
            return super().__call__(tiles)

    pixels = drawn(300, 200).pixels
    assert np.array_equal(run_tiled(Small(), pixels, 256), repeated(pixels, 2))
    assert "tiles of 64 pixels" in caplog.text


def test_no_memory_at_all_is_an_error() -> None:
    class Broke(Repeat):
        def __call__(self, tiles: Tensor) -> Tensor:
            raise ResourceExhausted("out_of_memory", "Too large.")

    with pytest.raises(ResourceExhausted):
        run_tiled(Broke(), drawn(64, 64).pixels, 64)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_an_invalid_tile_is_refused(value: float) -> None:
    class Dying(Repeat):
        def __call__(self, tiles: Tensor) -> Tensor:
            result = super().__call__(tiles)
            if self.calls == 2:
                result[:] = value
            return result

    with pytest.raises(Invalid) as caught:
        run_tiled(Dying(), drawn(120, 120).pixels, 64)
    assert caught.value.code == "bad_tile"


def test_a_black_page_may_stay_black() -> None:
    black = np.zeros((90, 90, 3), np.uint8)
    assert run_tiled(Repeat(), black, 32).max() == 0


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    run_tiled(Repeat(), drawn(100, 100).pixels, 40, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("window", [None, 48])
def test_pages_share_batches_and_keep_their_order(window: int | None) -> None:
    network = Repeat(window=window)
    pages = [
        drawn(width, height, seed=seed).pixels
        for seed, (width, height) in enumerate([(150, 130)] * 2 + [(90, 260)])
    ]
    shares: list[float] = []
    results = list(run_pages(network, pages, 40, batch=4, progress=shares.append))
    assert all(np.array_equal(done, repeated(page, 2)) for done, page in zip(results, pages, strict=True))
    assert network.calls < sum(shape[0] for shape in network.batches)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_too_little_memory_halves_the_batch_first() -> None:
    class Narrow(Repeat):
        def __call__(self, tiles: Tensor) -> Tensor:
            if len(tiles) > 2:
                raise ResourceExhausted("out_of_memory", "Too many.")
            return super().__call__(tiles)

    network = Narrow()
    pages = [drawn(150, 130, seed=seed).pixels for seed in range(3)]
    results = list(run_pages(network, pages, 40, batch=8))
    assert all(np.array_equal(done, repeated(page, 2)) for done, page in zip(results, pages, strict=True))
    assert max(shape[0] for shape in network.batches) == 2


def test_a_page_smaller_than_a_fixed_tile_is_padded() -> None:
    pixels = drawn(30, 20).pixels
    network = Repeat(window=64)
    assert np.array_equal(run_tiled(network, pixels, 40), repeated(pixels, 2))
    assert network.batches == [(1, 3, 64, 64)]


@pytest.mark.parametrize("page", ["pepper_e01_p03.webp", "derived_screentone_pepper_e01_p01.png"])
def test_a_network_with_pooling_treats_all_tiles_alike(page: str, assets: Path, settings: Settings) -> None:
    settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    network = load_network(Recipe(CARDS["realcugan-2x-conservative"], "fp32"), settings)
    picture = decode((assets / "pages" / page).read_bytes(), settings).picture
    pixels = picture.region(300, 300, 150, 130).pixels
    adapted = network.adapt_to_page(sample_tiles(network, pixels, 64))
    whole = run_tiled(adapted, pixels, 4096).astype(int)
    difference = np.abs(run_tiled(adapted, pixels, 64).astype(int) - whole)
    assert difference.max() <= 4
    unadapted = np.abs(run_tiled(network, pixels, 64).astype(int) - whole).mean()
    assert unadapted > difference.mean()


def test_working_memory_does_not_grow_with_the_page() -> None:
    """Memory besides the two pictures, measured for a page and for one with four times its width and height."""
    small, large = (_working_memory(side) for side in (500, 2000))
    assert large < 3 * small  # the fade zone below grows with the width; the page is sixteen times as large


def _working_memory(side: int) -> int:
    page = np.zeros((side, side, 3), dtype=np.uint8)
    network = Repeat()
    tracemalloc.start()
    try:
        enlarged = run_tiled(network, page, 128)
        return tracemalloc.get_traced_memory()[1] - enlarged.nbytes
    finally:
        tracemalloc.stop()
