"""A training of a few steps on drawings makes a file that the engine loads."""

import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for_file
from panelworks.settings import Settings
from training.corpus import HELD_OUT, OPEN_LICENCES, Page, crop, draw_pages, read_pages
from training.degrade import degrade
from training.drawings import draw_page
from training.evaluate import compare


@pytest.mark.parametrize("look", ["colour", "screentone", "ink"])
def test_drawings_repeat_for_a_seed(look: str) -> None:
    chosen = look if look == "colour" else "ink"
    first, second = (np.asarray(draw_page((90, 120), Random(4), chosen)) for _ in range(2))  # type: ignore[arg-type]
    assert np.array_equal(first, second)
    assert first.std() > 10


def test_degraded_patches_have_half_the_size() -> None:
    page = draw_pages(1, seed=1)[0]
    patch = crop(page, 96, Random(2))
    assert patch.shape == (96, 96, 3)
    for seed in range(12):
        assert degrade(patch, Random(seed), degraded_share=1.0).shape == (48, 48, 3)


def test_held_out_works_are_not_used_for_training(assets: Path) -> None:
    trained = {page.name for page in read_pages(assets / "pages", held_out=False)}
    held_out = {page.name for page in read_pages(assets / "pages", held_out=True)}
    assert trained
    assert held_out
    assert not trained & held_out
    assert not any(name.startswith(HELD_OUT) or "science" in name for name in trained)
    assert OPEN_LICENCES


def test_a_short_training_improves_the_network(tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "net.safetensors"
    command = [sys.executable, "-m", "training.train", "--out", str(out), "--drawings", "3", "--steps", "120"]
    command += [
        "--features",
        "12",
        "--convolutions",
        "2",
        "--batch",
        "4",
        "--rate",
        "2e-3",
        "--worn-share",
        "0",
    ]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    card = card_for_file(out)
    assert load_network(Recipe(card), settings).scale == 2
    pages = [Page("drawn", draw_pages(1, seed=99)[0].pixels)]
    row = next(compare(pages, settings, card, side=256))
    assert row.network > row.bicubic - 3
