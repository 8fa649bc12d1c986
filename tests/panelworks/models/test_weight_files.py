"""ncnn pairs: the same networks as in their authors' files."""

from pathlib import Path

import numpy as np
import pytest

from panelworks.errors import Misconfigured
from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for
from panelworks.models.weight_files import read_pair, read_pickle
from panelworks.settings import Settings
from tests.networks import random_compact, random_rrdb, write_pair

TILE = np.random.default_rng(1).random((1, 3, 40, 32), dtype=np.float32)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("kind", ["compact", "rrdb"])
def test_a_pair_is_the_same_network(kind: str, half: bool, tmp_path: Path, settings: Settings) -> None:
    make = random_compact if kind == "compact" else random_rrdb
    original = make(tmp_path / "original.pth")
    pair = write_pair(tmp_path, "pair", read_pickle(original), half=half)
    first = load_network(Recipe(card_for(str(original)), "fp32"), settings)
    for name in (pair, pair.with_suffix(".bin")):
        second = load_network(Recipe(card_for(str(name)), "fp32"), settings)
        assert second.scale == first.scale
        assert np.abs(first(TILE) - second(TILE)).mean() < (0.01 if half else 1e-5)


@pytest.mark.parametrize(
    "file", ["realcugan-se_up2x-conservative.from-ncnn-fp16.pth", "realesr-general-x4v3.from-ncnn-fp16.pth"]
)
def test_real_weights_come_back_to_the_last_bit(file: str, assets: Path, tmp_path: Path) -> None:
    state = read_pickle(assets / "weights" / file)
    arrays = read_pair(write_pair(tmp_path, "pair", state))
    assert set(arrays) == set(state)
    assert all(np.array_equal(arrays[name], value.float().numpy()) for name, value in state.items())


@pytest.mark.parametrize("damage", ["short", "long", "magic", "strange", "cut", "incomplete"])
def test_files_that_are_no_pair_are_refused(damage: str, tmp_path: Path) -> None:
    pair = write_pair(tmp_path, "pair", read_pickle(random_compact(tmp_path / "n.pth")))
    binary = pair.with_suffix(".bin")
    if damage == "short":
        binary.write_bytes(binary.read_bytes()[:-4])
    elif damage == "long":
        binary.write_bytes(binary.read_bytes() + bytes(4))
    elif damage == "magic":
        pair.write_text("8" + pair.read_text())
    elif damage == "cut":
        pair.write_text(pair.read_text() + "Convolution conv 1")
    elif damage == "incomplete":
        pair.write_text(pair.read_text() + "Convolution conv 1 1 a b 0=64")
    else:
        pair.write_text(pair.read_text().replace("PReLU", "Swish"))
    with pytest.raises(Misconfigured) as caught:
        read_pair(pair)
    assert caught.value.code in ("weights_unreadable", "unsupported_model")
