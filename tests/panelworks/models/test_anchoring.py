"""A network's drift of tones is taken back; what it drew stays."""

import numpy as np
import pytest

from panelworks.models import anchoring
from panelworks.models.anchoring import anchor
from panelworks.pictures import resize
from panelworks.pictures.picture import Pixels
from tests.pages import drawn


def page(height: int = 400) -> tuple[Pixels, Pixels]:
    """A drawn page and its honest enlargement."""
    source = drawn(320, height, seed=4)
    return source.pixels, resize(source, (640, 2 * height)).pixels.copy()


@pytest.mark.parametrize("drift", [(6, -5, 4), (-9, 0, 0)])
def test_a_tint_is_taken_back(drift: tuple[int, int, int]) -> None:
    source, honest = page()
    tinted = np.clip(honest.astype(int) + drift, 0, 255).astype(np.uint8)
    anchor(source, tinted)
    off = tinted.astype(int) - honest
    assert np.abs(np.median(off, axis=(0, 1))).max() <= 1


def test_what_is_honest_is_hardly_touched() -> None:
    source, honest = page()
    kept = honest.copy()
    anchor(source, kept)
    off = np.abs(kept.astype(int) - honest)
    assert np.percentile(off, 99) <= 1
    assert off.mean() < 0.2


def test_detail_of_the_network_stays() -> None:
    source, honest = page()
    rows, columns = np.indices(honest.shape[:2])
    board = np.where((rows + columns) % 2, 4, -4)[:, :, None]
    fine = np.clip(honest.astype(int) + board, 0, 255).astype(np.uint8)
    kept = fine.copy()
    anchor(source, kept)
    assert np.abs(kept.astype(int) - fine).mean() < 1


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of several bands is corrected as if it were one."""
    source, honest = page(1300)
    slope = np.linspace(-6, 6, 2600)[:, None, None]
    in_bands = np.clip(np.rint(honest + slope), 0, 255).astype(np.uint8)
    at_once = in_bands.copy()
    anchor(source, in_bands)
    monkeypatch.setattr(anchoring, "_BAND", 1300)
    anchor(source, at_once)
    assert np.array_equal(in_bands, at_once)


def test_what_is_far_off_stays_to_be_seen() -> None:
    source, honest = page()
    inverted = (255 - honest).astype(np.uint8)
    anchor(source, inverted)
    assert np.abs(inverted.astype(int) - (255 - honest)).max() <= 8


def test_gray_pages_and_pages_at_their_own_size() -> None:
    source = drawn(90, 70, seed=4).pixels[:, :, :1].copy()
    darker = np.clip(source.astype(int) - 5, 0, 255).astype(np.uint8)
    anchor(source, darker)
    assert darker.shape == source.shape
    assert abs(float(np.median(darker.astype(int) - source))) <= 1
