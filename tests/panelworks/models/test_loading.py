"""Loading networks from files: both runtimes, every kind of file, and invalid files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.errors import Misconfigured
from panelworks.models.loading import Recipe, borrow_network, load_network
from panelworks.models.openvino_graphs import is_compact
from panelworks.models.openvino_network import OpenVinoNetwork
from panelworks.models.registry import card_for, card_for_file
from panelworks.models.torch_network import TorchNetwork, pick_device
from panelworks.models.weight_files import read_pickle
from panelworks.settings import Settings
from tests.networks import random_compact

TILE = np.random.default_rng(0).random((1, 3, 37, 45), dtype=np.float32)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_openvino_and_torch_agree(suffix: str, scale: int, tmp_path: Path, settings: Settings) -> None:
    path = random_compact(tmp_path / f"net{suffix}", scale=scale, strength=1.0)
    fast = load_network(Recipe(card_for_file(path), "fp32"), settings)
    assert isinstance(fast, OpenVinoNetwork)
    if suffix == ".pth":
        state = read_pickle(path)
    else:
        from safetensors.torch import load_file

        state = load_file(path)
    slow = TorchNetwork(state, device=torch.device("cpu"), precision="fp32")
    assert fast.scale == slow.scale == scale
    # spandrel clips to [0, 1]; the tiler does so for every network.
    assert np.abs(fast(TILE).clip(0, 1) - slow(TILE)).max() < 1e-4


def test_the_bundled_network_loads_without_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys; from panelworks.models.loading import Recipe, load_network;"
        "from panelworks.domain.cards import BUNDLED, CARDS; from panelworks.settings import get_settings;"
        "print(load_network(Recipe(CARDS[BUNDLED]), get_settings()).device, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino", "False"]


def test_a_network_is_loaded_once(settings: Settings) -> None:
    recipe = Recipe(CARDS[BUNDLED])
    with borrow_network(recipe, settings) as first, borrow_network(recipe, settings) as second:
        assert first is second


def test_the_bundled_file_is_small_and_half_precision() -> None:
    from safetensors.torch import load_file

    card = CARDS[BUNDLED]
    assert card.path is not None
    assert card.bytes < 1_500_000
    assert {value.dtype for value in load_file(card.path).values()} == {torch.float16}


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_file_without_a_network_is_refused(name: str, tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / name
    path.write_bytes(b"this is no network")
    with pytest.raises(Misconfigured) as caught:
        load_network(Recipe(card_for_file(path)), settings)
    assert caught.value.code == "weights_unreadable"


def test_code_in_a_weight_file_is_not_run(tmp_path: Path, settings: Settings) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "sprung"),))  # type: ignore[return-value]

    path = tmp_path / "trap.pth"
    torch.save({"params": {"body.0.weight": Trap()}}, path)
    with pytest.raises(Misconfigured):
        load_network(Recipe(card_for_file(path)), settings)
    assert not (tmp_path / "sprung").exists()


def test_an_unknown_architecture_is_refused(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "strange.pth"
    torch.save({"strange.weight": torch.zeros(3)}, path)
    with pytest.raises(Misconfigured) as caught:
        load_network(Recipe(card_for_file(path)), settings)
    assert caught.value.code == "unsupported_model"


def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(Misconfigured) as caught:
        card_for("no-such-network")
    assert BUNDLED in caught.value.message


def test_a_missing_device_falls_back_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    if torch.cuda.is_available():
        assert pick_device("cuda").type == "cuda"
    else:
        assert pick_device("cuda").type == "cpu"
        assert "unavailable: using the cpu" in caplog.text


@pytest.mark.parametrize(
    ("names", "compact"),
    [
        ({"body.0.weight": 4, "body.0.bias": 1, "body.1.weight": 1, "body.2.weight": 4}, True),
        ({"body.0.weight": 4, "body.2.weight": 4}, False),
        ({"conv_first.weight": 4}, False),
        ({}, False),
    ],
)
def test_compact_networks_are_recognised(names: dict[str, int], compact: bool) -> None:
    assert is_compact(names) == compact


def test_real_networks_load_by_name_and_path(
    assets: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    assert load_network(Recipe(CARDS["realesr-animevideov3"]), settings).scale == 4
    for path in sorted((assets / "weights").glob("*compact*.pth")) + sorted(
        (assets / "weights").glob("real*ncnn*.pth")
    ):
        network = load_network(Recipe(card_for_file(path)), settings)
        output = network(TILE)
        assert output.shape == (1, 3, 37 * network.scale, 45 * network.scale)
