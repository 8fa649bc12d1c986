"""`restore_tones` corrects the drift of tones of a network and keeps its detail."""

import numpy as np
import pytest

from panelworks.pictures import resize
from panelworks.pictures.picture import Pixels
from panelworks.steps import upscale
from panelworks.steps.upscale import restore_tones
from tests.pages import drawn


def page(height: int = 400) -> tuple[Pixels, Pixels]:
    """A drawn page and its faithful enlargement."""
    source = drawn(320, height, seed=4)
    return source.pixels, resize(source, (640, 2 * height)).pixels.copy()


@pytest.mark.parametrize("drift", [(6, -5, 4), (-9, 0, 0)])
def test_a_tint_is_corrected(drift: tuple[int, int, int]) -> None:
    source, faithful = page()
    tinted = np.clip(faithful.astype(int) + drift, 0, 255).astype(np.uint8)
    restore_tones(source, tinted)
    off = tinted.astype(int) - faithful
    assert np.abs(np.median(off, axis=(0, 1))).max() <= 1


def test_a_faithful_result_hardly_changes() -> None:
    source, faithful = page()
    kept = faithful.copy()
    restore_tones(source, kept)
    off = np.abs(kept.astype(int) - faithful)
    assert np.percentile(off, 99) <= 1
    assert off.mean() < 0.2


def test_detail_of_the_network_stays() -> None:
    source, faithful = page()
    rows, columns = np.indices(faithful.shape[:2])
    board = np.where((rows + columns) % 2, 4, -4)[:, :, None]
    fine = np.clip(faithful.astype(int) + board, 0, 255).astype(np.uint8)
    kept = fine.copy()
    restore_tones(source, kept)
    assert np.abs(kept.astype(int) - fine).mean() < 1


def test_bands_are_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of several bands is corrected like a single band."""
    source, faithful = page(1300)
    slope = np.linspace(-6, 6, 2600)[:, None, None]
    in_bands = np.clip(np.rint(faithful + slope), 0, 255).astype(np.uint8)
    at_once = in_bands.copy()
    restore_tones(source, in_bands)
    monkeypatch.setattr(upscale, "_BAND_ROWS", 1300)
    restore_tones(source, at_once)
    assert np.array_equal(in_bands, at_once)


def test_a_large_error_stays_visible() -> None:
    source, faithful = page()
    inverted = (255 - faithful).astype(np.uint8)
    restore_tones(source, inverted)
    assert np.abs(inverted.astype(int) - (255 - faithful)).max() <= 8


@pytest.mark.parametrize("size", [(90, 70), (89, 67), (3, 2), (1, 1), (5, 300)])
def test_gray_pages_and_pages_at_their_own_size(size: tuple[int, int]) -> None:
    source = drawn(*size, seed=4).pixels[:, :, :1].copy()
    darker = np.clip(source.astype(int) - 5, 0, 255).astype(np.uint8)
    restore_tones(source, darker)
    assert darker.shape == source.shape
    assert abs(float(np.median(darker.astype(int) - source))) <= 1
