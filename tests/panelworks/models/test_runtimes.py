"""Runtimes and precisions: both runtimes compute the same pixels, and reduced precisions are checked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.errors import Misconfigured, ResourceExhausted
from panelworks.models import loading
from panelworks.models.loading import (
    MIN_AGREEMENT_DECIBELS,
    PrecisionChecks,
    Recipe,
    load_network,
    measure_agreement,
    probe_picture,
)
from panelworks.models.openvino_network import OpenVinoNetwork
from panelworks.models.registry import card_for
from panelworks.models.tiling import choose_batch_size, choose_tile_size
from panelworks.models.torch_network import TorchNetwork, identify_network
from panelworks.models.weight_files import blended, read_arrays
from panelworks.settings import Settings
from tests.networks import random_compact, random_rrdb

TILE = np.random.default_rng(2).random((2, 3, 32, 48), dtype=np.float32)


@pytest.mark.parametrize("scale", [4, 2, 1])
def test_openvino_and_torch_agree_on_rrdb(scale: int, tmp_path: Path, settings: Settings) -> None:
    recipe = Recipe(card_for(str(random_rrdb(tmp_path / "net.pth", scale=scale))), "fp32")
    fast = load_network(recipe, settings)
    slow = load_network(recipe, settings.model_copy(update={"runtime": "torch"}))
    assert isinstance(fast, OpenVinoNetwork)
    assert isinstance(slow, TorchNetwork)
    assert (fast.scale, fast.channels) == (slow.scale, slow.channels) == (scale, 3)
    assert fast(TILE).shape == (2, 3, 32 * scale, 48 * scale)
    assert np.abs(fast(TILE).clip(0, 1) - slow(TILE)).max() < 2e-3
    odd = TILE[:, :, :31, :45]
    assert fast(odd).shape == slow(odd).shape


def test_openvino_refuses_unsupported_networks(assets: Path, settings: Settings) -> None:
    card = card_for(str(assets / "weights" / "realcugan-se_up2x-conservative.from-ncnn-fp16.pth"))
    with pytest.raises(Misconfigured, match="OpenVINO"):
        load_network(Recipe(card), settings.model_copy(update={"runtime": "openvino"}))


def test_large_networks_are_compiled_once_and_stored(tmp_path: Path, settings: Settings) -> None:
    card = card_for(str(random_rrdb(tmp_path / "net.pth", blocks=6)))
    first = load_network(Recipe(card), settings)(TILE)
    assert list((settings.cache_dir / "openvino").iterdir())
    assert np.array_equal(load_network(Recipe(card), settings)(TILE), first)


def torch_network(path: Path, precision: str) -> TorchNetwork:
    state = {name: torch.from_numpy(array) for name, array in read_arrays(path).items()}
    return TorchNetwork(state, device=torch.device("cpu"), precision=precision)  # type: ignore[arg-type]


def test_half_precision_agrees_if_a_network_supports_it(tmp_path: Path) -> None:
    path = random_compact(tmp_path / "tame.pth")
    assert (
        measure_agreement(torch_network(path, "bf16"), torch_network(path, "fp32")) > MIN_AGREEMENT_DECIBELS
    )


def test_a_network_that_overflows_in_fp16_is_detected(tmp_path: Path) -> None:
    path = random_compact(tmp_path / "wild.pth")
    state = torch.load(path, weights_only=True)
    inner = state.get("params", state)
    inner["body.0.weight"] *= 1e6
    inner["body.2.weight"] *= 1e-6
    torch.save(state, path)
    assert (
        measure_agreement(torch_network(path, "fp16"), torch_network(path, "fp32")) < MIN_AGREEMENT_DECIBELS
    )


def test_auto_falls_back_to_fp32_and_stores_the_result(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = random_compact(tmp_path / "wild.pth", strength=3.0)
    chosen = settings.model_copy(update={"runtime": "torch"})
    built: list[str] = []
    original = loading._build_with_torch

    def half_first(arrays: object, settings: Settings, precision: str) -> object:
        built.append(precision)
        return original(arrays, settings, "fp16" if precision == "auto" else "fp32")  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "_build_with_torch", half_first)
    monkeypatch.setattr(loading, "measure_agreement", lambda *_: 20.0)
    assert load_network(Recipe(card_for(str(path))), chosen).precision == "fp32"
    assert "uses fp32" in caplog.text
    monkeypatch.setattr(loading, "measure_agreement", lambda *_: pytest.fail("checked twice"))
    assert load_network(Recipe(card_for(str(path))), chosen).precision == "fp32"
    assert built == ["auto", "fp32", "auto", "fp32"]
    (answer,) = json.loads((settings.cache_dir / "precision.json").read_text()).values()
    assert answer == 20.0


def test_a_damaged_file_of_checks_is_empty(tmp_path: Path) -> None:
    checks = PrecisionChecks(tmp_path / "precision.json")
    (tmp_path / "precision.json").write_text("{")
    assert checks.passed("anything") is None
    checks.store("anything", float("-inf"))
    checks.store("other", float("inf"))
    assert (checks.passed("anything"), checks.passed("other")) == (False, True)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_probe_has_dark_light_and_middle_tones(channels: int) -> None:
    picture = probe_picture(channels, 64)
    assert picture.shape == (1, channels, 64, 64)
    assert (picture.min(), picture.max()) == (0, 1)
    assert 0.2 < picture.mean() < 0.8


def test_weights_are_blended_by_share(tmp_path: Path, settings: Settings) -> None:
    paths = [random_compact(tmp_path / f"{seed}.pth", seed=seed, strength=1.0) for seed in (1, 2)]
    first, second = (card_for(str(path)) for path in paths)
    outputs = {
        share: load_network(Recipe(first, "fp32", second, share), settings)(TILE) for share in (0.0, 0.5, 1.0)
    }
    assert np.allclose(outputs[1.0], load_network(Recipe(first, "fp32"), settings)(TILE))
    assert np.allclose(outputs[0.0], load_network(Recipe(second, "fp32"), settings)(TILE))
    assert not np.allclose(outputs[0.5], outputs[1.0])
    with pytest.raises(Misconfigured, match="same shape"):
        blended(read_arrays(paths[0]), read_arrays(random_compact(tmp_path / "4.pth", scale=4)), 0.5)


def test_the_tile_size_follows_memory_and_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network(Recipe(CARDS[BUNDLED]), settings)
    roomy = choose_tile_size(network, None)
    assert 256 <= roomy <= 1024
    assert choose_tile_size(network, 96) == 96
    monkeypatch.setattr(network, "free_memory", lambda: 40 * 2**20)
    assert choose_tile_size(network, None) < roomy
    monkeypatch.setattr(network, "free_memory", lambda: 0)
    assert choose_tile_size(network, None) == 32
    assert choose_batch_size(network, 64) == 1


def test_batches_use_an_accelerator_within_its_memory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network(Recipe(CARDS[BUNDLED]), settings)
    monkeypatch.setattr(network, "device", "cuda")
    monkeypatch.setattr(network, "free_memory", lambda: 8 * 2**30)
    assert choose_batch_size(network, 64) > 1
    monkeypatch.setattr(network, "free_memory", lambda: 2**20)
    assert choose_batch_size(network, 64) == 1


def test_a_network_that_does_not_fit_is_refused_before_it_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panelworks.models import torch_network as module

    monkeypatch.setattr(module, "free_device_memory", lambda device: 1000)
    state = {
        name: torch.from_numpy(array)
        for name, array in read_arrays(random_compact(tmp_path / "n.pth")).items()
    }
    network = identify_network(state)
    assert network is not None
    with pytest.raises(ResourceExhausted, match="free on the device"):
        TorchNetwork(state, device=torch.device("cuda"), precision="fp32")


def test_openvino_reports_its_import_to_nobody(tmp_path: Path) -> None:
    """It writes an id to ~/intel and sends usage data, unless its package for that is missing."""
    program = "import panelworks.models.openvino_network, sys; print([*filter(None, map(sys.modules.get, sys.modules))])"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "openvino.tools.ovc" in loaded.stdout and "openvino_telemetry" not in loaded.stdout
    assert list(tmp_path.iterdir()) == []
