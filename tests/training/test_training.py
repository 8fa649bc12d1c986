"""A training of a few steps on drawings makes a file that the engine loads."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from spandrel.architectures.Compact import Compact

from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for_file
from panelworks.settings import Settings
from tests.servers import ROOT
from training.corpus import HELD_OUT, OPEN_LICENCES, crop, draw_pages, kind_of, read_pages
from training.degrade import degrade
from training.drawings import draw_page
from training.evaluate import compare, measure
from training.networks import collapse_weights, make_network
from training.patches import Batches, Source


@pytest.mark.parametrize("look", ["colour", "screentone", "ink"])
def test_drawings_repeat_for_a_seed(look: str) -> None:
    chosen = look if look == "colour" else "ink"
    first, second = (np.asarray(draw_page((90, 120), Random(4), chosen)) for _ in range(2))  # type: ignore[arg-type]
    assert np.array_equal(first, second)
    assert first.std() > 10


def test_degraded_crops_have_half_the_size() -> None:
    page = draw_pages(1, seed=1)[0]
    square = crop(page, 96, Random(2))
    assert square.shape == (96, 96, 3)
    for seed in range(12):
        assert degrade(square, Random(seed), degraded_share=1.0).shape == (48, 48, 3)


@pytest.mark.parametrize(
    ("description", "kind"),
    [
        ("colour page, painted, balloons", "painted"),
        ("watercolour with ink", "painted"),
        ("painted plate, halftone print", "painted"),
        ("ink line art", "line"),
        ("wood engraving, night and shadow", "line"),
        ("pencil line art, drawn faces", "line"),
        ("flat colour vector drawing", "flat"),
        ("solid black shapes with thin white lines, vector sheet", "flat"),
        ("grayscale page with 45 degree dot screentone (made here)", "screentone"),
    ],
)
def test_the_description_of_a_picture_names_its_kind(description: str, kind: str) -> None:
    assert kind_of(description) == kind


def test_a_scan_is_reduced_and_decoded_once(tmp_path: Path) -> None:
    Image.fromarray(draw_pages(1, seed=3)[0].pixels).save(tmp_path / "scan.png")
    entry = {"file": "scan.png", "licence": "CC0", "kind": "ink line art", "clean": False}
    (tmp_path / "manifest.json").write_text(json.dumps([entry]))
    plain, stored, again = (
        read_pages(tmp_path, held_out=False, store=store)[0]
        for store in (None, tmp_path / "store", tmp_path / "store")
    )
    assert plain.pixels.shape == (400, 320, 3)
    assert isinstance(stored.pixels, np.memmap)
    assert np.array_equal(stored.pixels, plain.pixels) and np.array_equal(again.pixels, plain.pixels)
    assert plain.kind == "line"


def test_batches_hold_matching_patches_and_the_shares_of_the_mix() -> None:
    pages = draw_pages(12, seed=2)
    mix = (Source("screentone", is_degraded=False, share=0.5), Source("line", is_degraded=False, share=0.5))
    batches = iter(Batches(pages, batch=16, patch=48, seed=1, mix=mix))
    coloured = 0
    for degraded, clean in (next(batches) for _ in range(12)):
        assert degraded.shape == (16, 48, 48, 3) and clean.shape == (16, 96, 96, 3)
        halves = clean.float().reshape(16, 48, 2, 48, 2, 3).mean(dim=(2, 4))
        assert (halves - degraded.float()).abs().mean() < 12
        coloured += int((clean.amax(3) - clean.amin(3) > 40).any())
    assert coloured == 0, "neither ink nor screentone has colours"


def test_a_collapsed_network_computes_the_same() -> None:
    network = make_network("collapsible", 8, 2)
    plain = Compact(num_feat=8, num_conv=2, upscale=2)
    plain.load_state_dict(collapse_weights(network, network.state_dict()))
    page = torch.rand(1, 3, 20, 24)
    assert torch.allclose(network(page), plain(page), atol=1e-5)


def test_held_out_works_are_not_used_for_training(assets: Path) -> None:
    trained = {page.name for page in read_pages(assets / "pages", held_out=False)}
    held_out = {page.name for page in read_pages(assets / "pages", held_out=True)}
    assert trained
    assert held_out
    assert not trained & held_out
    assert not any(name.startswith(HELD_OUT) or "science" in name for name in trained)
    assert OPEN_LICENCES


def test_a_training_goes_on_after_its_end(tmp_path: Path, settings: Settings) -> None:
    """Two sittings; the first is interrupted. The network doubles pages better than before."""
    out, state = tmp_path / "net.safetensors", tmp_path / "net.state"
    command = [sys.executable, "-m", "training.train", "--out", str(out), "--drawings", "3", "--batch", "4"]
    command += ["--features", "12", "--convolutions", "2", "--patch", "48", "--rate", "2e-3"]
    command += ["--design", "collapsible"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        next(line for line in first.stdout if line.startswith("step 100:"))
        first.send_signal(signal.SIGINT)
        first.stdout.read()
    assert first.returncode == 0
    before = torch.load(state, weights_only=True)
    assert before["steps"] >= 100
    done = subprocess.run([*command, "--steps", "40"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert f"step {before['steps']}, " in done.stdout
    after = torch.load(state, weights_only=True)
    assert (after["steps"], after["sittings"]) == (before["steps"] + 40, 2)
    network = load_network(Recipe(card_for_file(out)), settings)
    (row,) = compare(draw_pages(1, seed=99), {"ours": network}, side=256)
    assert row.by_method["ours"].psnr > row.by_method["bicubic"].psnr - 3
    other = subprocess.run([*command, "--features", "16"], cwd=ROOT, capture_output=True, text=True)
    assert other.returncode == 1 and "of another network" in other.stderr


def test_a_blurred_page_has_wider_edges() -> None:
    page = draw_pages(1, seed=5)[0].pixels
    blurred = np.asarray(Image.fromarray(page).filter(ImageFilter.GaussianBlur(1.2)))
    same, wide = measure(page, page), measure(blurred, page)
    assert (same.psnr > 90, same.edge_width) == (True, 1)
    assert wide.edge_width > 1.3
